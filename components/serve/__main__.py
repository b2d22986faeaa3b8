"""Flags -> config -> server; exit codes as in shared/launch.py: 0 ended by a signal, 2 usage, 65 bad data."""

import sys

import tyro

from components.serve.config import ServeConfig
from components.serve.server import bind, run
from components.serve.service import Service
from components.shared import log
from components.shared.launch import EXIT_BAD_DATA


def main() -> None:
    """Serves until SIGTERM."""
    config = tyro.cli(ServeConfig, prog="python -m components.serve", use_underscores=False)
    try:
        bound = bind(config)
        service = Service.open(config)
    except (ValueError, FileNotFoundError) as error:
        log.error("serve stopped", problem=str(error))
        sys.exit(EXIT_BAD_DATA)
    run(service, bound)


if __name__ == "__main__":
    main()
