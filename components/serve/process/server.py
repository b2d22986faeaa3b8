"""How the process runs and ends, around the application.

SIGTERM: /readyz says no at once, requests are taken for `drain_seconds` more (until every load balancer has noticed),
then the listener closes, what is in flight is finished, and the process exits with 0. SIGHUP: what the pointer or the
flags name now is served from then on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from components.serve.app import create_app
from components.serve.process.siblings import Siblings
from components.serve.process.supervisor import BEAT_SECONDS, WorkerSeat
from components.serve.service import Service
from components.shared import log

# Connections that wait to be taken while all processes are busy.
_BACKLOG = 2048
# Longer than the 60 seconds after which load balancers give an idle connection up: who closes first must not be the
# server, or it closes while the next request is on its way.
_KEEP_ALIVE_SECONDS = 75


class _LogLines(logging.Handler):
    """What uvicorn warns of, as lines like ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log.event(
            record.getMessage(), level="error" if record.levelno >= logging.ERROR else "warning", logger=record.name
        )


def run(service: Service, bound: socket.socket, seat: WorkerSeat | None = None) -> None:
    """Serves until a signal ends it; with a seat, as one of several workers."""
    logging.basicConfig(handlers=[_LogLines()], level=logging.WARNING)
    config = service.config
    siblings = Siblings(seat.folder, seat.number, config.num_workers, service.metrics.exposition) if seat else None
    settings = uvicorn.Config(
        create_app(service, siblings),
        http=_impatient(config.body_seconds, config.request_seconds),
        loop="asyncio",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        # One connection a turn of the loop: a worker that took all that wait would leave none for the others.
        backlog=1 if seat else _BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(config.request_seconds) + 1,
    )
    _DrainingServer(settings, service, seat, siblings).run(sockets=[bound])
    log.event("server stopped")


def _impatient(first_seconds: float, reading_seconds: float) -> type[asyncio.Protocol]:
    """The HTTP protocol that hangs up on a client which connects and sends no request, or does not read its answer."""

    class Impatient(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.loop.call_later(first_seconds, self._hang_up_without_request)

        def _hang_up_without_request(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            # What the socket did not take lies in our memory until the client reads.
            if self.transport.get_write_buffer_size():
                self.loop.call_later(reading_seconds, self._hang_up_on_the_deaf, self.cycle)

        def _hang_up_on_the_deaf(self, cycle: object) -> None:
            if self.cycle is cycle and self.transport.get_write_buffer_size():
                log.warning("a client did not read its answer")
                self.transport.abort()

    return Impatient


class _DrainingServer(uvicorn.Server):
    """uvicorn closes the listener at the signal; this one lets the load balancers notice first."""

    def __init__(
        self, config: uvicorn.Config, service: Service, seat: WorkerSeat | None, siblings: Siblings | None
    ) -> None:
        super().__init__(config)
        self._service, self._seat, self._siblings = service, seat, siblings
        self._listener_closes: float | None = None
        self._next_beat = 0.0
        self._reload: asyncio.Task[bool] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._start_reload)
        if self._siblings is not None:
            await self._siblings.listen()
        for listener in sockets or []:
            listener.listen(_BACKLOG)
            host, port = listener.getsockname()[:2]
            log.event("serving", url=f"http://{host}:{port}")

    def _start_reload(self) -> None:
        self._reload = asyncio.get_running_loop().create_task(self._service.reload())

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
        if self._seat is not None and time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + BEAT_SECONDS
            self._beat(self._seat.beat_fd)
        return await super().on_tick(counter)

    def _beat(self, descriptor: int) -> None:
        if self._service.not_alive():
            return
        try:
            os.write(descriptor, b".")
        except BlockingIOError:
            pass  # a supervisor that does not read for hours is still there
        except BrokenPipeError:
            if self._listener_closes is None:
                log.error("the supervisor is gone")
                self.handle_exit(signal.SIGTERM, None)
