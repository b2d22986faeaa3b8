"""A page in a real headless browser, and all that a person would call broken in it."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

WIDTHS, SCHEMES = (400, 1280), ("light", "dark")
# Source: WCAG 2.2, success criterion 1.4.3, asks for 3 for large text; below that nothing is readable.
LEAST_CONTRAST = 3.0

_FIND_PROBLEMS = r"""
const [leastContrast] = arguments;
const problems = [];
const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});

function rgba(colour) {
  context.clearRect(0, 0, 1, 1);
  context.fillStyle = "rgba(0, 0, 0, 0)";
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return Array.from(context.getImageData(0, 0, 1, 1).data, (value, place) => place < 3 ? value : value / 255);
}
function over(front, back) {
  return [0, 1, 2].map((place) => front[place] * front[3] + back[place] * (1 - front[3])).concat(1);
}
function background(element) {
  const layers = [];
  for (let node = element; node; node = node.parentElement) layers.push(rgba(getComputedStyle(node).backgroundColor));
  const canvas = matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0, 1] : [255, 255, 255, 1];
  return layers.reverse().reduce((back, layer) => over(layer, back), canvas);
}
function luminance(colour) {
  const [red, green, blue] = colour.slice(0, 3).map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}
function painted(value) { return value !== "none" && rgba(value)[3] > 0; }
function stroked(style) { return painted(style.stroke) && parseFloat(style.strokeWidth) > 0; }
function name(element) { return element.textContent.trim().replace(/\s+/g, " ").slice(0, 40); }

const root = document.documentElement;
if (root.scrollWidth > root.clientWidth) {
  const wide = [...document.body.querySelectorAll("*")]
    .filter((element) => element.getBoundingClientRect().right > root.clientWidth + 1);
  problems.push(`overflow: the page is ${root.scrollWidth} pixels wide and the window ${root.clientWidth}: ` +
    wide.slice(0, 3).map((element) => `${element.tagName} ${name(element)}`).join("; "));
}

for (const element of document.querySelectorAll("svg polyline, svg path, svg line")) {
  const closed = element.tagName === "path" && /z\s*$/i.test(element.getAttribute("d"));
  const style = getComputedStyle(element);
  if (element.tagName !== "line" && !closed && stroked(style) && painted(style.fill))
    problems.push(`filled line: ${element.tagName} ` +
      (element.getAttribute("d") || element.getAttribute("points")).slice(0, 40));
}

for (const chart of document.querySelectorAll("svg[role=img]")) {
  const title = chart.getAttribute("aria-label"), box = chart.getBoundingClientRect();
  if (!title) problems.push("unnamed chart");
  const texts = [...chart.querySelectorAll("text")].filter((text) => text.textContent.trim())
    .map((text) => [name(text), text.getBoundingClientRect()]);
  for (const [text, its] of texts)
    if (its.left < box.left - 1 || its.right > box.right + 1 || its.top < box.top - 1 || its.bottom > box.bottom + 1)
      problems.push(`text outside: ${text} in ${title}`);
  texts.forEach(([text, its], place) => texts.slice(place + 1).forEach(([other, theirs]) => {
    const width = Math.min(its.right, theirs.right) - Math.max(its.left, theirs.left);
    const height = Math.min(its.bottom, theirs.bottom) - Math.max(its.top, theirs.top);
    if (width > 1 && height > 2) problems.push(`text over text: ${text} and ${other} in ${title}`);
  }));
  // A grid alone is no chart: it has the faint colour.
  const probe = chart.parentElement.appendChild(document.createElement("i"));
  probe.style.color = "var(--faint)";
  const grid = getComputedStyle(probe).color;
  probe.remove();
  const shapes = [...chart.querySelectorAll("path, rect, circle, polyline, line, polygon, ellipse")].filter((shape) => {
    const style = getComputedStyle(shape), its = shape.getBoundingClientRect();
    const shown = (painted(style.fill) && its.width > 0 && its.height > 0) || (stroked(style) && style.stroke !== grid);
    return shown && style.visibility === "visible" && its.width + its.height > 0;
  });
  if (!shapes.length || !box.width || !box.height) problems.push(`empty chart: ${title}`);
}

document.querySelectorAll("details").forEach((details) => { details.open = true; });
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement, style = getComputedStyle(element);
  if (["STYLE", "TITLE"].includes(element.tagName.toUpperCase())) continue;
  if (!walker.currentNode.data.trim() || !element.getClientRects().length) continue;
  const back = background(element), front = rgba(element.closest("svg") ? style.fill : style.color);
  front[3] *= element.closest("svg") ? parseFloat(style.fillOpacity) : 1;
  for (let node = element; node; node = node.parentElement) front[3] *= parseFloat(getComputedStyle(node).opacity);
  const ratio = contrast(over(front, back), back);
  if (ratio < leastContrast) problems.push(`contrast ${ratio.toFixed(2)}: ${name(element)}`);
}
if (root.scrollWidth > root.clientWidth && !problems.some((problem) => problem.startsWith("overflow")))
  problems.push(`overflow: with all details open the page is ${root.scrollWidth} pixels wide, ` +
    `the window ${root.clientWidth}`);
return problems;
"""


@contextmanager
def open_browser(profile: Path) -> Iterator[Chrome]:
    """A headless Chromium with a fresh profile; the test is skipped where there is none."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed (Debian: chromium chromium-driver)")
    options = ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options, ChromeService(driver))
    yield browser
    browser.quit()


def find_problems(browser: Chrome, page: Path, *, width: int, scheme: str) -> list[str]:
    """What is broken in a page as a window of this width (pixels) shows it in light or dark."""
    show(browser, page, width=width, scheme=scheme)
    problems: list[str] = browser.execute_script(_FIND_PROBLEMS, LEAST_CONTRAST)
    return problems + [f"console: {entry['message']}" for entry in browser.get_log("browser")]


def show(browser: Chrome, page: Path, *, width: int, scheme: str) -> None:
    """Opens a page."""
    browser.get_log("browser")
    metrics: dict[str, Any] = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page.resolve().as_uri())
    matches = browser.execute_script(f"return matchMedia({json.dumps(f'(prefers-color-scheme: {scheme})')}).matches")
    assert matches, f"the browser does not emulate {scheme}"
