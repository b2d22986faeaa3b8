"""Flags -> config -> server; exit codes as in shared/launch.py: 0 ended by a signal, 2 usage, 65 bad data, 75 retry."""

import socket
import sys

import tyro

from components.serve.config import ServeConfig
from components.serve.process.supervisor import Supervisor, WorkerSeat, bind
from components.shared import log
from components.shared.contract.ending import EXIT_BAD_DATA, EXIT_TRANSIENT, TransientError
from components.shared.contract.needs import check_needs, promised


def main() -> None:
    """Serves until SIGTERM."""
    config = tyro.cli(ServeConfig, prog="python -m components.serve", use_underscores=False)
    seat = WorkerSeat.from_environment()
    try:
        check_needs(promised())
        if seat is None and config.num_workers > 1:
            sys.exit(Supervisor(config, bind(config)).run())
        _serve(config, seat)
    except (ValueError, FileNotFoundError) as error:
        log.error("serve stopped", problem=str(error))
        sys.exit(EXIT_BAD_DATA)
    except TransientError as error:
        log.error("serve stopped", problem=str(error), remedy="start it again")
        sys.exit(EXIT_TRANSIENT)


def _serve(config: ServeConfig, seat: WorkerSeat | None) -> None:
    bound = socket.socket(fileno=seat.socket_fd) if seat else bind(config)
    # Imported here: a supervisor needs none of it, and a port that is taken is known half a second sooner.
    from components.serve.process.server import run
    from components.serve.service import Service

    run(Service(config), bound, seat)


if __name__ == "__main__":
    main()
