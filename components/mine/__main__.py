"""Flags -> config -> job."""

from components.mine.config import MineConfig
from components.mine.job import mine
from components.shared.launch import launch

if __name__ == "__main__":
    launch("mine", MineConfig, mine)
