"""The environment of child processes that are not ours: Java and Postgres."""

import os
from collections.abc import Mapping

_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR")


def plain_environment(own: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that such a program needs, without those that change its behaviour (PGDATA, JAVA_TOOL_OPTIONS, …).

    The locale sets the encoding of paths: with Java's default, ASCII, many home folders could not be named.
    """
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {"PATH": os.defpath, **inherited, "LC_ALL": "C.UTF-8", "TZ": "UTC", **(own or {})}
