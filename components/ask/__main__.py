"""Flags -> config -> job."""

from components.ask.config import AskConfig
from components.ask.job import ask
from components.shared.launch import launch

if __name__ == "__main__":
    launch("ask", AskConfig, ask)
