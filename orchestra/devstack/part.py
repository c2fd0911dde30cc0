"""A part of the stack: how to start it, how to see that it is ready, how to stop it."""

import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Account:
    """The operating-system user that a part runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Part:
    """One process of the stack. Times are in seconds.

    ``orphan_signal`` is sent by the kernel when the supervisor is gone; ``before_start`` runs before each start.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    ready: Callable[[], Awaitable[bool]]
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    start_limit: float = 90.0
    stop_limit: float = 15.0
    account: Account | None = None
    before_start: Callable[[], None] = lambda: None
    address: str = ""


def python_module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module. ``-P`` keeps a folder of the same name in the current folder out of it."""
    return [sys.executable, "-P", "-m", name, *arguments]
