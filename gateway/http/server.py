"""The HTTP server: the same app on two ports, and a shutdown that open streams cannot block."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from fastapi import FastAPI

from gateway.drain import Drain
from orchestra.http.client_address import Proxies
from orchestra.http.server import Server, server_config

_DRAIN_SECONDS = 6
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

log = structlog.get_logger()


class GatewayServer(Server):
    """Stops when the drain begins. SIGINT and SIGTERM begin it; a second SIGINT stops at once."""

    def __init__(self, app: FastAPI, drain: Drain, proxies: Proxies) -> None:
        super().__init__(server_config(app, proxies, timeout_graceful_shutdown=_DRAIN_SECONDS))
        self._drain = drain
        drain.on_begin(self.wake)

    async def on_tick(self, counter: int) -> bool:
        """Also stop when a part of the app has begun the drain."""
        return await super().on_tick(counter) or self._drain.begun

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals in the event loop, so that the process can choose its exit code."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._leave, number)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _leave(self, number: signal.Signals) -> None:
        log.info("stopping", signal=number.name)
        self.force_exit = self.should_exit and number is signal.SIGINT
        self.should_exit = True
        self.wake()
        self._drain.begin()


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet. Raises ``OSError``."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
