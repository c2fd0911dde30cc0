"""The ports of the embedded stack, and which process holds one that is taken."""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from orchestra.devstack.errors import PortTakenError

HOST = "127.0.0.1"
_POLL_SECONDS = 0.2
# Two ports for each gateway beyond the first come before those of the workers.
_MAX_GATEWAYS = 20


@dataclass(frozen=True)
class Ports:
    """One port per part.

    ``more``: the first of the further gateways, two for each. ``metrics``: of the first worker, one for each.
    """

    gateway: int = 8080
    tasks: int = 8081
    llm: int = 8082
    model: int = 8083
    kafka: int = 19092
    controller: int = 19093
    postgres: int = 15432
    more: int = 19100
    metrics: int = 9464

    @classmethod
    def from_base(cls, base: int) -> "Ports":
        """Consecutive ports, starting with the gateway's."""
        return cls(
            gateway=base,
            tasks=base + 1,
            llm=base + 2,
            kafka=base + 3,
            postgres=base + 4,
            model=base + 5,
            controller=base + 6,
            more=base + 7,
            metrics=base + 7 + 2 * (_MAX_GATEWAYS - 1),
        )

    def of_gateway(self, number: int) -> tuple[int, int]:
        """``PORT`` and ``TASKS_PORT`` of the gateway with this number; the first is number 1."""
        if number == 1:
            return self.gateway, self.tasks
        first = self.more + 2 * (number - 2)
        return first, first + 1

    def of_worker(self, number: int) -> int:
        """``METRICS_PORT`` of the worker with this number; the first is number 1."""
        return self.metrics + number - 1

    def needed(self, gateways: int, *, model: bool) -> dict[str, int]:
        """Every port that must be free, with the name of the part that opens it. Workers run without metrics, too."""
        names = {
            "Kafka": self.kafka,
            "Kafka controller": self.controller,
            "Postgres": self.postgres,
            "LLM service": self.llm,
        }
        if model:
            names["model"] = self.model
        for number in range(1, gateways + 1):
            names[f"gateway {number}"], names[f"gateway {number} (tasks)"] = self.of_gateway(number)
        return names


async def until_free(needed: Mapping[str, int], patience: float = 0.0) -> None:
    """Wait at most ``patience`` seconds until nothing listens on these ports. Raises ``PortTakenError``."""
    while blocked := {part: port for part, port in needed.items() if taken(port)}:
        if patience <= 0:
            lines = [
                f"port {port} ({part}) is taken by {holder(port) or 'another process'}"
                for part, port in blocked.items()
            ]
            raise PortTakenError("\n".join((*lines, "stop that process, or choose other ports with --port-base")))
        patience -= _POLL_SECONDS
        await asyncio.sleep(_POLL_SECONDS)


def taken(port: int) -> bool:
    """True if something listens on this port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def holder(port: int) -> str | None:
    """Name and pid of the process that listens on ``port``, if this user may see it."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()}, pid {connection.pid}"
    except psutil.Error:
        pass
    return None
