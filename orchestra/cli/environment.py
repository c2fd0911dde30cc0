"""Finds the stack of a data folder, for commands that are not given its addresses."""

import asyncio
import re
from pathlib import Path
from typing import Any

import typer

from orchestra.addresses import is_http_url
from orchestra.cli.options import DEFAULT_DATA, fail
from orchestra.devstack.control import ask
from orchestra.devstack.errors import StackError
from orchestra.devstack.folder import DataFolder

_DEFAULT_GATEWAY = "http://127.0.0.1:8080"
_HOST = re.compile(rb"[\w.:-]+", re.ASCII)


def gateway_of(gateway: str | None, data: Path, status: int = 1) -> str:
    """The gateway to use: the given one, else that of the stack on this folder, else the default address.

    A folder given explicitly must have a running stack; otherwise this exits with code ``status``.
    """
    if gateway is not None:
        return _address(gateway)
    try:
        return str(_status(data)["gateway"]["url"])
    except StackError as error:
        if data != DEFAULT_DATA:
            raise fail(str(error), status) from None
        return _DEFAULT_GATEWAY


def _address(url: str) -> str:
    if not is_address(url):
        told = f"{url[:200]!r} is not a gateway address such as http://127.0.0.1:8080"
        raise typer.BadParameter(told, param_hint="--gateway")
    return url.rstrip("/")


def is_address(url: str) -> bool:
    """Whether the HTTP client can make a request to a path under this URL."""
    import httpx

    try:
        read = httpx.URL(url)
        # Decoded lazily, so an error shows only here.
        named = bool(read.host and _HOST.fullmatch(read.raw_host))
    except (ValueError, httpx.InvalidURL):
        return False
    return named and is_http_url(url) and not (read.query or read.fragment)


def environment_of_stack(data: Path) -> dict[str, str]:
    """The environment variables of the stack that runs on this folder; empty if none runs."""
    try:
        environment: dict[str, str] = _status(data)["env"]
    except StackError:
        return {}
    return environment


def _status(data: Path) -> dict[str, Any]:
    answer = asyncio.run(ask(DataFolder.at(data).socket, {"do": "status"}, lambda _: None))
    status: dict[str, Any] = answer["status"]
    return status
