"""Free ports below 32768, where no client socket takes them between the choice and the use."""

import asyncio
import atexit
import fcntl
import random
import tempfile
from functools import cache
from pathlib import Path

from orchestra.devstack.ports import HOST, taken

_FIRST, _LAST = 20_000, 32_000
_BLOCK = 1_000
_given: set[int] = set()


def free_port() -> int:
    """A port that nothing listens on and that no other test run has taken."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of ``count`` such ports in a row."""
    start = _block()
    while True:
        first = random.randrange(start, start + _BLOCK - count)
        row = set(range(first, first + count))
        if not row & _given and not any(map(taken, row)):
            _given.update(row)
            return first


async def listens(port: int) -> bool:
    """Whether something listens on this port."""
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


@cache
def _block() -> int:
    """A block of ports that no other run on this machine has, held by a lock until this process ends."""
    for start in random.sample(range(_FIRST, _LAST, _BLOCK), (_LAST - _FIRST) // _BLOCK):
        lock = (Path(tempfile.gettempdir()) / f"llm-orchestra-tests-{start}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            atexit.register(lock.close)
            return start
    raise RuntimeError("every block of test ports is in use by another test run")
