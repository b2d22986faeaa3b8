"""Flags -> config -> job."""

from components.check.config import CheckConfig
from components.check.job import check
from components.shared.launch import launch

if __name__ == "__main__":
    launch("check", CheckConfig, check)
