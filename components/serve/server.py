"""The listening socket, and how the process ends.

SIGTERM: /readyz says no at once, requests are taken for `drain_seconds` more (until every load balancer has noticed), then the
listener closes, what is in flight is finished, and the process exits with 0.
"""

from __future__ import annotations

import logging
import signal
import socket
import time
from types import FrameType

import uvicorn

from components.serve.app import create_app
from components.serve.config import ServeConfig
from components.serve.service import Service
from components.shared import log


def bind(config: ServeConfig) -> socket.socket:
    """A bound socket that does not listen yet, so that a taken port is known before anything is loaded.

    Raises:
        ValueError: Where host and port cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, OverflowError) as error:
        raise ValueError(f"cannot listen on {config.host}:{config.port} ({error}); choose another --port or --host") from error
    return bound


class _LogLines(logging.Handler):
    """What uvicorn warns of, as lines like ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log.event(record.getMessage(), level="error" if record.levelno >= logging.ERROR else "warning", logger=record.name)


def run(service: Service, bound: socket.socket) -> None:
    """Serves until a signal ends it."""
    logging.basicConfig(handlers=[_LogLines()], level=logging.WARNING)
    settings = uvicorn.Config(
        create_app(service),
        http="httptools",
        loop="asyncio",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=int(service.config.request_seconds) + 1,
    )
    _DrainingServer(settings, service).run(sockets=[bound])
    log.event("server stopped")


class _DrainingServer(uvicorn.Server):
    """uvicorn closes the listener at the signal; this one lets the load balancers notice first."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._listener_closes: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for each in sockets or []:
            host, port = each.getsockname()[:2]
            log.event("serving", url=f"http://{host}:{port}")

    def handle_exit(self, sig: int, _frame: FrameType | None) -> None:
        # Not handed to uvicorn: it would raise the signal again at the end, and the exit code would not be 0.
        if sig == signal.SIGINT or self._listener_closes is not None:
            self.force_exit = self.should_exit
            self.should_exit = True
            return
        self._service.drain()
        self._listener_closes = time.monotonic() + self._service.config.drain_seconds
        log.event("SIGTERM: draining", seconds=self._service.config.drain_seconds)

    async def on_tick(self, counter: int) -> bool:
        if self._listener_closes is not None and time.monotonic() >= self._listener_closes:
            self.should_exit = True
        return await super().on_tick(counter)
