"""Finds the stack of a folder, for verbs that work on it without being told where it is."""

import asyncio
from pathlib import Path
from typing import Any

import typer

from orchestra.addresses import is_http_url
from orchestra.cli.options import DEFAULT_DATA, fail
from orchestra.devstack.control import ask
from orchestra.devstack.errors import StackError
from orchestra.devstack.folder import DataFolder

_DEFAULT_GATEWAY = "http://127.0.0.1:8080"


def gateway_of(gateway: str | None, data: Path, status: int = 1) -> str:
    """The gateway to use: the one that was named, else that of the stack on this folder, else the usual address.

    A folder that was named must have a running stack; without one this ends with exit code ``status``.
    """
    if gateway:
        return _address(gateway)
    try:
        return str(_status(data)["gateway"]["url"])
    except StackError as error:
        if data != DEFAULT_DATA:
            raise fail(str(error), status) from None
        return _DEFAULT_GATEWAY


def _address(url: str) -> str:
    if not is_http_url(url):
        raise typer.BadParameter(f"{url} is not the address of a gateway, as http://127.0.0.1:8080 is")
    return url.rstrip("/")


def environment_of_stack(data: Path) -> dict[str, str]:
    """The environment variables of the stack that runs on this folder; none where no stack runs."""
    try:
        environment: dict[str, str] = _status(data)["env"]
    except StackError:
        return {}
    return environment


def _status(data: Path) -> dict[str, Any]:
    answer = asyncio.run(ask(DataFolder.at(data).socket, {"do": "status"}, lambda _: None))
    status: dict[str, Any] = answer["status"]
    return status
