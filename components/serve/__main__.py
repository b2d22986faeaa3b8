"""Flags -> config -> server; exit codes as in shared/launch.py: 0 ended by a signal, 2 usage, 65 bad data."""

import socket
import sys

import tyro

from components.serve.config import ServeConfig
from components.serve.supervisor import Supervisor, WorkerPlace, bind
from components.shared import log
from components.shared.launch import EXIT_BAD_DATA


def main() -> None:
    """Serves until SIGTERM."""
    config = tyro.cli(ServeConfig, prog="python -m components.serve", use_underscores=False)
    place = WorkerPlace.from_environment()
    try:
        if place is None and config.num_workers > 1:
            sys.exit(Supervisor(config, bind(config)).run())
        _serve(config, place)
    except (ValueError, FileNotFoundError) as error:
        log.error("serve stopped", problem=str(error))
        sys.exit(EXIT_BAD_DATA)


def _serve(config: ServeConfig, place: WorkerPlace | None) -> None:
    bound = socket.socket(fileno=place.socket_fd) if place else bind(config)
    # Imported here: a supervisor needs none of it, and a port that is taken is known half a second sooner.
    from components.serve.server import run
    from components.serve.service import Service

    run(Service(config), bound, place)


if __name__ == "__main__":
    main()
