"""Flags -> config -> job."""

from components.collect.config import CollectConfig
from components.collect.job import collect
from components.shared.launch import launch

if __name__ == "__main__":
    launch("collect", CollectConfig, collect)
