"""``python -m gateway``: the gateway as a process."""

import socket
import sys

import structlog

from gateway.app import create_app
from gateway.drain import Drain
from gateway.server import GatewayServer, bind
from gateway.settings import GatewaySettings
from orchestra.process import allow_many_connections
from orchestra.settings import load
from orchestra.telemetry.logging import configure_logging


def main() -> None:
    """Serve until SIGTERM. Exit code 0 after that, 1 when a part is beyond help, 78 for a bad setting."""
    settings = load(GatewaySettings)
    configure_logging("gateway", settings.log_level)
    drain = Drain()
    app = create_app(settings, drain=drain)
    sockets = _bind(settings)
    allow_many_connections()
    structlog.get_logger().info("listening", address=settings.host, port=[each.getsockname()[1] for each in sockets])
    GatewayServer(app, drain).run(sockets)
    sys.exit(1 if drain.failed else 0)


def _bind(settings: GatewaySettings) -> list[socket.socket]:
    sockets = []
    # The same number twice is one port, unless it is 0: any free one.
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
