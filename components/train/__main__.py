"""Flags -> config -> job; with several GPUs one process each."""

import sys

from components.shared.contract.stopping import die_with_parent, heed_sigterm
from components.shared.launch import launch
from components.train.config import TrainConfig
from components.train.job import train
from components.train.loop.processes import processes_to_start, run_processes

if __name__ == "__main__":
    if (count := processes_to_start(sys.argv[1:])) > 1:
        heed_sigterm()
        die_with_parent()
        sys.exit(run_processes(count, sys.argv[1:]))
    launch("train", TrainConfig, train)
