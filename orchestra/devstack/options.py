"""The options of `orchestra up`."""

from dataclasses import dataclass, field
from pathlib import Path

from orchestra.devstack.ports import Ports


@dataclass(frozen=True)
class StackOptions:
    """One stack: its data folder, the number of workers and gateways, and its ports."""

    data: Path
    workers: int = 1
    gateways: int = 1
    ports: Ports = field(default_factory=Ports)
