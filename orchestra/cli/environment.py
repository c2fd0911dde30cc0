"""What the stack of a folder would tell a further service: for verbs that may work on it without being told where."""

import asyncio
from pathlib import Path

from orchestra.devstack.control import ask
from orchestra.devstack.errors import NotRunningError
from orchestra.devstack.folder import DataFolder


def environment_of_stack(data: Path) -> dict[str, str]:
    """The environment variables of the stack that runs on this folder; none where no stack runs."""
    try:
        answer = asyncio.run(ask(DataFolder.at(data).socket, {"do": "status"}, lambda _: None))
    except NotRunningError:
        return {}
    environment: dict[str, str] = answer["status"]["env"]
    return environment
