"""The environment of children that are not ours: Java and Postgres."""

import os
from collections.abc import Mapping

_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR")


def plain_environment(own: Mapping[str, str] | None = None) -> dict[str, str]:
    """What such a program needs, and nothing that would change what it does: PGDATA, JAVA_TOOL_OPTIONS and the like.

    The locale says how paths are written: in Java's default, ASCII, half of the world's home folders have no name.
    """
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {"PATH": os.defpath, **inherited, "LC_ALL": "C.UTF-8", "TZ": "UTC", **(own or {})}
