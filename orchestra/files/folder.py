"""A folder on a local disk, or on a network file system, as the home of files."""

import asyncio
import os
import re
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import TypeVar

from orchestra.files.home import (
    MARKER,
    MAX_CHUNK_BYTES,
    Blob,
    BlobMissingError,
    FilesUnavailableError,
    Measured,
    Stored,
)

_T = TypeVar("_T")
_UNFINISHED = "unfinished"
# Folders of blobs. Unfinished ones are listed too, so that what a crash left is swept with everything unreferenced.
_PLACES = re.compile(rf"[0-9a-f]{{2}}|{_UNFINISHED}")
_PATH = re.compile(rf"({_PLACES.pattern})/[0-9a-f]{{30}}")
_MAX_AT_ONCE = 1000


class Folder:
    """Keeps each blob in a file of its own. A blob appears when its bytes are on the disk.

    While the marker is missing the home is unavailable: the disk is not mounted, or this is another folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> Stored:
        """Store a blob."""
        target, unfinished = self._path(key), self._path(f"{_UNFINISHED}/{secrets.token_hex(15)}")
        measured = Measured(chunks)
        file = await _in_thread(self._create, unfinished)
        try:
            async for chunk in measured:
                await _in_thread(_write, file, chunk)
            await _in_thread(_finish, file, unfinished, target)
        finally:
            file.close()
            unfinished.unlink(missing_ok=True)
        return measured.stored

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of a blob."""
        file = await _in_thread(self._open, self._path(key), start)
        try:
            at = start
            while stop is None or at < stop:
                chunk = await _in_thread(
                    file.read, MAX_CHUNK_BYTES if stop is None else min(MAX_CHUNK_BYTES, stop - at)
                )
                if not chunk:
                    return
                at += len(chunk)
                yield chunk
        finally:
            file.close()

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete blobs."""
        await _in_thread(self._unlink, [self._path(key) for key in keys])

    async def presigned_url(self, key: str, seconds: int) -> None:  # noqa: ARG002 (the interface's names)
        """None: a folder is not served."""
        return

    async def blobs(self) -> AsyncIterator[Sequence[Blob]]:
        """All blobs, one folder after another."""
        for place in await _in_thread(self._places):
            found = await _in_thread(_listed, self._root / place)
            for first in range(0, len(found), _MAX_AT_ONCE):
                yield found[first : first + _MAX_AT_ONCE]

    async def check(self) -> None:
        """Check that the folder has its marker and can be written to."""
        await _in_thread(self._check)

    async def read_marker(self) -> str | None:
        """The text of the marker."""
        try:
            return await _in_thread((self._root / MARKER).read_text)
        except BlobMissingError:
            return None

    async def write_marker(self, text: str) -> None:
        """Create the folder, and write the marker."""
        await _in_thread(self._write_marker, text)

    def _path(self, key: str) -> Path:
        if not _PATH.fullmatch(key):
            raise ValueError("not the key of a blob")
        return self._root / key

    def _check(self) -> None:
        try:
            (self._root / MARKER).stat()
        except FileNotFoundError:
            raise FilesUnavailableError("the folder of FILES_URL has no marker of a gateway") from None
        if not os.access(self._root / _UNFINISHED, os.W_OK | os.X_OK):
            raise FilesUnavailableError("the folder of FILES_URL cannot be written to")

    def _create(self, path: Path) -> FileIO:
        self._check()
        return FileIO(path, "x")

    def _open(self, path: Path, start: int) -> FileIO:
        try:
            file = FileIO(path)
        except FileNotFoundError:
            self._check()
            raise
        file.seek(start)
        return file

    def _unlink(self, paths: Sequence[Path]) -> None:
        self._check()
        for path in paths:
            path.unlink(missing_ok=True)

    def _places(self) -> list[str]:
        self._check()
        return sorted(path.name for path in self._root.iterdir() if _PLACES.fullmatch(path.name))

    def _write_marker(self, text: str) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._root / _UNFINISHED).mkdir(exist_ok=True)
        unfinished = self._root / f"{MARKER}.{secrets.token_hex(8)}"
        with FileIO(unfinished, "x") as file:
            _write(file, text.encode())
            _finish(file, unfinished, self._root / MARKER)


async def _in_thread(work: Callable[..., _T], *given: object) -> _T:
    """Run blocking work. It is waited for even when this task is cancelled, so that no file is closed under it."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *given))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
    except FileNotFoundError:
        raise BlobMissingError from None
    except OSError as error:
        raise FilesUnavailableError(f"the folder of FILES_URL: {error.strerror}") from error


def _write(file: FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _finish(file: FileIO, unfinished: Path, target: Path) -> None:
    os.fsync(file.fileno())
    file.close()
    if not target.parent.is_dir():
        target.parent.mkdir(exist_ok=True)
        _sync(target.parent.parent)
    unfinished.replace(target)
    _sync(target.parent)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _listed(folder: Path) -> list[Blob]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            key = f"{folder.name}/{entry.name}"
            if _PATH.fullmatch(key) and (changed := _changed_at(entry)):
                found.append(Blob(key, changed))
    return found


def _changed_at(entry: os.DirEntry[str]) -> datetime | None:
    try:
        return datetime.fromtimestamp(entry.stat().st_mtime, UTC)
    except FileNotFoundError:  # Finished or deleted since.
        return None
