"""Flags -> config -> job."""

from components.prepare.config import PrepareConfig
from components.prepare.job import prepare
from components.shared.launch import launch

if __name__ == "__main__":
    launch("prepare", PrepareConfig, prepare)
