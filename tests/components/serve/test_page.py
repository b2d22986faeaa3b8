"""The page in a real browser: what a person types, sees, hears and may not be harmed by."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from components.serve.client import RetrieverClient
from tests.components.serve.served import Process, Sources

QUERY = "the danger of a glacier"
KEY = "a-key-for-the-page-0123"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed (Debian: chromium chromium-driver)")
    options = ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1100,900",
    ):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options, ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def served(sources: Sources) -> Iterator[str]:
    server = Process(*sources.flags(), "--num-sessions=1")
    yield server.url
    server.terminate()
    assert server.exit_code() == 0


def waiting(browser: Chrome) -> WebDriverWait[Chrome]:
    """Up to twenty seconds; an element that the page replaced between finding and reading it is looked for again."""
    return WebDriverWait(browser, 20, ignored_exceptions=[StaleElementReferenceException])


def by_id(browser: Chrome, name: str) -> WebElement:
    return browser.find_element(By.ID, name)


def status(browser: Chrome) -> str:
    """The status line when the search is over."""

    def said(_: Chrome) -> str:
        text = by_id(browser, "status").text
        return "" if text == "Searching ..." else text

    return str(waiting(browser).until(said))


def test_the_same_query_is_answered_alike_on_the_page_by_curl_and_by_the_client(
    browser: Chrome, served: str, tmp_path: Path
) -> None:
    browser.get(served)
    by_id(browser, "query").send_keys(QUERY + Keys.ENTER)
    said = status(browser)
    shown = [
        (
            item.find_element(By.CSS_SELECTOR, "code").text,
            item.find_element(By.CSS_SELECTOR, ".score").text,
            item.find_element(By.CSS_SELECTOR, "p").text,
        )
        for item in browser.find_elements(By.CSS_SELECTOR, "#hits li")
    ]
    with RetrieverClient(served) as client:
        ranking = client.search(QUERY)
    curl = ["curl", "--fail", "--silent", f"{served}/search", "--json", json.dumps({"query": QUERY})]
    curled = json.loads(subprocess.run(curl, check=True, capture_output=True).stdout)["hits"]
    assert [(hit["passage_id"], hit["text"]) for hit in curled] == [(hit.passage_id, hit.text) for hit in ranking.hits]
    assert [hit["score"] for hit in curled] == pytest.approx([hit.score for hit in ranking.hits], abs=1e-6)
    assert shown == [(hit.passage_id, f"score {hit.score:.4f}", hit.text) for hit in ranking.hits]
    assert said.startswith("10 passages in ")
    assert f"release {ranking.version}" in said
    assert "server " in said
    assert browser.get_screenshot_as_file(str(tmp_path / "page.png"))


def test_the_page_asks_nobody_but_its_server_and_breaks_no_rule_of_its_own(browser: Chrome, served: str) -> None:
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(f"{served}/?q=volcano")
    status(browser)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    }
    assert {f"{served}/search", f"{served}/readyz"} <= asked
    assert [url for url in asked if not url.startswith((served, "data:"))] == []
    assert browser.get_log("browser") == []


def test_the_address_keeps_the_query_and_the_way_back_works(browser: Chrome, served: str) -> None:
    browser.get(f"{served}/?q=violin+craft&depth=5")
    assert status(browser).startswith("5 passages")
    by_id(browser, "query").clear()
    by_id(browser, "query").send_keys("beehive season" + Keys.ENTER)
    waiting(browser).until(lambda _: browser.find_element(By.CSS_SELECTOR, "#hits code").text == "beehive-season")
    assert "q=beehive+season" in browser.current_url
    browser.back()
    waiting(browser).until(lambda _: browser.find_element(By.CSS_SELECTOR, "#hits code").text == "violin-craft")
    assert by_id(browser, "query").get_property("value") == "violin craft"


def test_a_mode_is_chosen_kept_in_the_address_and_said(browser: Chrome, served: str) -> None:
    browser.get(f"{served}/?q=violin+craft&depth=5&mode=bm25")
    assert ", by words, release" in status(browser)
    with RetrieverClient(served) as client:
        expected = [f"score {hit.score:.4f}" for hit in client.search("violin craft", depth=5, mode="bm25").hits]
    assert [score.text for score in browser.find_elements(By.CSS_SELECTOR, "#hits .score")] == expected
    Select(by_id(browser, "mode")).select_by_visible_text("meaning and words")
    by_id(browser, "send").click()
    waiting(browser).until(lambda _: ", by meaning and words, release" in by_id(browser, "status").text)
    assert "mode=hybrid" in browser.current_url
    options = [option.text for option in Select(by_id(browser, "mode")).options]
    assert options == ["meaning (default)", "words", "meaning and words"]


def test_everything_has_a_name_and_the_keyboard_is_enough(browser: Chrome, served: str) -> None:
    browser.get(served)
    waiting(browser).until(lambda _: by_id(browser, "mode").is_displayed())
    for control in browser.find_elements(By.CSS_SELECTOR, "input, select, button"):
        if control.is_displayed():
            assert control.accessible_name
    assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
    assert by_id(browser, "status").get_attribute("aria-live") == "polite"
    assert browser.switch_to.active_element == by_id(browser, "query")
    browser.switch_to.active_element.send_keys("bakery" + Keys.TAB)
    assert browser.switch_to.active_element == by_id(browser, "depth")
    browser.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.switch_to.active_element == by_id(browser, "mode")
    browser.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.switch_to.active_element == by_id(browser, "send")
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert "passages" in status(browser)


def test_markup_in_a_query_stays_text(browser: Chrome, served: str) -> None:
    browser.get(served)
    by_id(browser, "query").send_keys("<img src=x onerror=document.title='harmed'> danger (volcano" + Keys.ENTER)
    assert "passages" in status(browser)
    assert browser.title == "Retriever"
    assert {mark.text for mark in browser.find_elements(By.TAG_NAME, "mark")} == {"danger", "volcano"}


def test_a_server_with_keys_asks_for_one_and_a_gone_server_is_told(
    browser: Chrome, sources: Sources, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"page {KEY}\n")
    server = Process(*sources.flags(), "--num-sessions=1", f"--api-keys-path={keys}")
    browser.get(f"{server.url}/?q=volcano")
    assert "no valid API key" in status(browser)
    field = by_id(browser, "key")
    assert field.is_displayed()
    field.send_keys(KEY + Keys.ENTER)
    waiting(browser).until(lambda _: browser.find_elements(By.CSS_SELECTOR, "#hits li"))
    server.terminate()
    assert server.exit_code() == 0
    by_id(browser, "send").click()
    assert status(browser).startswith("The server does not answer")


@pytest.mark.parametrize("width", [360, 1100])
def test_nothing_sticks_out_on_a_phone_or_a_desk(browser: Chrome, served: str, width: int) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get(f"{served}/?q=volcano")
    status(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
