"""Flags -> config -> job."""

from components.evaluate.suites.config import SuiteConfig
from components.evaluate.suites.job import evaluate_suite
from components.shared.launch import launch

if __name__ == "__main__":
    launch("evaluate.suites", SuiteConfig, evaluate_suite)
