"""What a part of the stack is: how to start it, how to tell that it is ready, how to end it."""

import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Account:
    """The operating system's user that a part runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Part:
    """One process of the stack. Times are in seconds.

    ``orphan_signal`` is what the kernel sends when the supervisor is gone; ``before_start`` runs before each start.
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
    """The command that runs a module; ``-P`` keeps a folder of that name in the present folder out of it."""
    return [sys.executable, "-P", "-m", name, *arguments]
