"""Flags -> config -> job."""

from components.evaluate.config import EvaluateConfig
from components.evaluate.job import evaluate
from components.shared.launch import launch

if __name__ == "__main__":
    launch("evaluate", EvaluateConfig, evaluate)
