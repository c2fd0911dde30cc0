"""Free ports below 32768, where no client socket takes them between the choice and the use."""

import random

from orchestra.devstack.ports import taken

_FIRST, _LAST = 20_000, 32_000
_given: set[int] = set()


def free_port() -> int:
    """A port that nothing listens on and that this run has given to nobody."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of so many such ports in a row."""
    while True:
        first = random.randrange(_FIRST, _LAST - count)
        row = set(range(first, first + count))
        if not row & _given and not any(map(taken, row)):
            _given.update(row)
            return first
