"""Flags -> config -> job."""

from components.evaluate.drift.config import DriftConfig
from components.evaluate.drift.job import report_drift
from components.shared.launch import launch

if __name__ == "__main__":
    launch("evaluate.drift", DriftConfig, report_drift)
