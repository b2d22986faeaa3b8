"""Flags -> config -> job."""

from components.promote.config import PromoteConfig
from components.promote.job import promote
from components.shared.launch import launch

if __name__ == "__main__":
    launch("promote", PromoteConfig, promote)
