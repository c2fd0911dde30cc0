"""``python -m gateway``: the gateway as a process."""

import asyncio
import os
import socket
import sys

import structlog

from gateway.app import create_app
from gateway.drain import Drain
from gateway.http.server import GatewayServer, bind
from gateway.people.startup_check import CannotStartError, check_way_in
from gateway.settings import GatewaySettings
from orchestra.process import allow_many_connections, look_for_garbage_rarely
from orchestra.setting_names import warn_of_suspects
from orchestra.settings import load
from orchestra.store.database import Database
from orchestra.telemetry.logging import configure_logging


def main() -> None:
    """Serve until SIGTERM, then exit with code 0.

    Exits with 1 when a port cannot be bound, and with 78 for a bad setting or when credentials are required but no
    valid credential exists.
    """
    settings = load(GatewaySettings)
    configure_logging("gateway", settings.log_level)
    warn_of_suspects(os.environ)
    drain = Drain()
    app = create_app(settings, drain=drain)
    sockets = _bind(settings)
    _check_way_in(settings)
    allow_many_connections()
    look_for_garbage_rarely()
    structlog.get_logger().info("listening", address=settings.host, port=[each.getsockname()[1] for each in sockets])
    GatewayServer(app, drain, settings.proxies).run(sockets)


def _check_way_in(settings: GatewaySettings) -> None:
    async def check() -> None:
        database = Database.connect(settings, "orchestra-gateway")
        try:
            await check_way_in(settings, database)
        finally:
            await database.close()

    try:
        asyncio.run(check())
    except CannotStartError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def _bind(settings: GatewaySettings) -> list[socket.socket]:
    sockets = []
    # The same number twice means one port, except 0, which picks any free port each time.
    same = settings.port == settings.tasks_port != 0
    for port in (settings.port,) if same else (settings.port, settings.tasks_port):
        try:
            sockets.append(bind(settings.host, port))
        except OSError as error:
            print(f"cannot listen on {settings.host} port {port}: {error.strerror}", file=sys.stderr)
            raise SystemExit(1) from None
    return sockets


if __name__ == "__main__":
    main()
