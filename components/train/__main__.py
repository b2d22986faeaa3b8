"""Flags -> config -> job."""

from components.shared.launch import launch
from components.train.config import TrainConfig
from components.train.job import train

if __name__ == "__main__":
    launch("train", TrainConfig, train)
