"""Flags -> config -> job."""

from components.index.config import IndexConfig
from components.index.job import build_index
from components.shared.launch import launch

if __name__ == "__main__":
    launch("index", IndexConfig, build_index)
