"""The control socket: how `orchestra status`, `scale` and `down` reach the supervisor. One JSON object a line.

A request is ``{"do": …}``; the answer any number of ``{"progress": …}``, then a ``{"result": …}`` or ``{"error": …}``.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestra.devstack.errors import NotRunningError, PartFailedError, RefusedError
from orchestra.devstack.progress import Progress, Report

# What a request does; it may report progress meanwhile.
Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
_LONGEST_SOCKET_PATH = 100


class ControlServer:
    """Answers requests until it is closed; everything reported meanwhile goes to all who wait for an answer."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._waiting: set[asyncio.StreamWriter] = set()
        self._answering: set[asyncio.Task[None]] = set()

    def report(self, progress: Progress) -> None:
        """Tell everybody who waits for an answer."""
        for writer in self._waiting:
            _send(writer, {"progress": asdict(progress)})

    @asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Listen while the body runs; then let the last answers go out."""
        path.unlink(missing_ok=True)
        with _ShortPath(path) as address:
            server = await asyncio.start_unix_server(self._connected, address)
        path.chmod(0o600)
        try:
            yield
            if self._answering:
                await asyncio.wait(self._answering, timeout=2)
        finally:
            server.close()
            path.unlink(missing_ok=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        self._waiting.add(writer)
        try:
            _send(writer, await self._answer(await reader.readline()))
            await writer.drain()
        except ConnectionError:
            pass  # Whoever asked has gone; what was asked for is done all the same.
        finally:
            self._waiting.discard(writer)
            self._answering.discard(task)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return {"result": await self._handle(json.loads(line))}
        except PartFailedError as error:
            return {"error": f"{error}\n{error.log_tail}".strip()}
        except (ValueError, KeyError, TypeError) as error:
            return {"error": f"not understood: {error}"}


async def ask(path: Path, request: dict[str, Any], report: Report) -> dict[str, Any]:
    """Send one request and wait for its result. Raises ``NotRunningError`` or ``RefusedError``."""
    try:
        with _ShortPath(path) as address:
            reader, writer = await asyncio.open_unix_connection(address)
    except (FileNotFoundError, ConnectionError):
        raise NotRunningError(f"no stack is running on {path.parent}") from None
    try:
        _send(writer, request)
        async for line in reader:
            answer = json.loads(line)
            if "progress" in answer:
                report(Progress(**answer["progress"]))
            elif "error" in answer:
                raise RefusedError(answer["error"])
            else:
                result: dict[str, Any] = answer["result"]
                return result
        raise NotRunningError("the supervisor went away")
    finally:
        writer.close()


def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    if not writer.is_closing():
        writer.write(json.dumps(message).encode() + b"\n")


class _ShortPath:
    """A path short enough for a socket's address, which holds about 100 bytes: by way of an open folder if need be."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder: int | None = None

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= _LONGEST_SOCKET_PATH:
            return str(self._path)
        self._folder = os.open(self._path.parent, os.O_RDONLY)
        return f"/proc/self/fd/{self._folder}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            os.close(self._folder)
