"""``python -m llm_service``: the LLM service as a process."""

import os
import socket
import sys
from contextlib import suppress

import structlog
from fastapi import FastAPI

from llm_service.app import create_app
from llm_service.models import ModelsFileError
from llm_service.providers.any_llm import ProviderSetupError
from llm_service.settings import LlmServiceSettings
from orchestra.http.server import Server, server_config
from orchestra.process import allow_many_connections, look_for_garbage_rarely
from orchestra.setting_names import warn_of_suspects
from orchestra.settings import load
from orchestra.telemetry.logging import configure_logging
from schemas.errors import OrchestraError

_EX_CONFIG = 78


def main() -> None:
    """Serve until SIGTERM. Generations that are still running after ``DRAIN_SECONDS`` are cut off."""
    settings = load(LlmServiceSettings)
    configure_logging("llm_service", settings.log_level)
    warn_of_suspects(os.environ)
    app = _app(settings)
    allow_many_connections()
    look_for_garbage_rarely()
    server = _Server(
        server_config(
            app,
            settings.proxies,
            host=settings.host,
            port=settings.port,
            timeout_graceful_shutdown=settings.drain_seconds,
        )
    )
    with suppress(KeyboardInterrupt):
        server.run()


class _Server(Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Log the address once it listens."""
        await super().startup(sockets)
        ports = [each.getsockname()[1] for server in self.servers for each in server.sockets]
        structlog.get_logger().info("listening", address=self.config.host, port=ports)


def _app(settings: LlmServiceSettings) -> FastAPI:
    try:
        return create_app(settings)
    except ModelsFileError as error:
        print(f"setting MODELS_FILE: {error}", file=sys.stderr)
    except ProviderSetupError as error:
        print(error, file=sys.stderr)
    except OrchestraError as error:
        print(f"setting LLM_MODEL: {error}", file=sys.stderr)
    raise SystemExit(_EX_CONFIG)


if __name__ == "__main__":
    main()
