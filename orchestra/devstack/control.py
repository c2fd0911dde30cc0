"""The control socket, by which `orchestra status`, `scale` and `down` reach the supervisor. One JSON object per line.

A request is ``{"do": …}``. The answer is any number of ``{"progress": …}``, then ``{"result": …}`` or ``{"error": …}``.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from orchestra.devstack.errors import NotRunningError, PartFailedError, RefusedError, StackError, UnreachableError
from orchestra.devstack.progress import Report, StartProgress

# Carries out a request; it may report progress.
Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
_LONGEST_SOCKET_PATH = 100
# The longest line of an answer; some contain the end of a log.
_MAX_BYTES = 1024 * 1024

_log = structlog.get_logger()


class ControlServer:
    """Answers requests until it is closed. Progress reports go to all clients that wait for an answer."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._waiting: set[asyncio.StreamWriter] = set()
        self._answering: set[asyncio.Task[None]] = set()

    def report(self, progress: StartProgress) -> None:
        """Send progress to every waiting client."""
        for writer in self._waiting:
            _send(writer, {"progress": asdict(progress)})

    @asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Listen while the body runs, then send the remaining answers."""
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
        except (ConnectionError, ValueError):
            pass  # The client has gone, with its request done all the same, or it never ended its line.
        finally:
            self._waiting.discard(writer)
            self._answering.discard(task)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            return {"error": "not understood: no JSON object"}
        try:
            return {"result": await self._handle(request)}
        except PartFailedError as error:
            return {"error": f"{error}\n{error.log_tail}".strip()}
        except StackError as error:
            return {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - whatever the error, the client receives it
            with suppress(Exception):
                _log.exception("request_failed")
            return {"error": f"failed: {error or type(error).__name__}"}


async def ask(path: Path, request: dict[str, Any], report: Report) -> dict[str, Any]:
    """Send one request and return its result.

    Raises ``NotRunningError``, its subclass ``UnreachableError`` if the state is unknown, or ``RefusedError``.
    """
    try:
        with _ShortPath(path) as address:
            reader, writer = await asyncio.open_unix_connection(address, limit=_MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError, ConnectionError):
        raise NotRunningError(f"no stack is running on {path.parent}") from None
    except OSError as error:
        raise UnreachableError(f"the stack on {path.parent} cannot be reached: {error.strerror}") from None
    try:
        _send(writer, request)
        async for line in reader:
            answer = json.loads(line)
            if "progress" in answer:
                report(StartProgress(**answer["progress"]))
            elif "error" in answer:
                raise RefusedError(answer["error"])
            else:
                result: dict[str, Any] = answer["result"]
                return result
        raise UnreachableError("the supervisor went away")
    except ConnectionError:
        raise UnreachableError("the supervisor went away") from None
    finally:
        writer.close()


def _send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    if not writer.is_closing():
        writer.write(json.dumps(message).encode() + b"\n")


class _ShortPath:
    """A path short enough for a socket address, about 100 bytes; a long one goes through an open folder."""

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
