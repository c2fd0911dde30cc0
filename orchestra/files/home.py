"""The home of files: where their bytes are kept, as blobs under keys without a meaning. Postgres has the meaning."""

import asyncio
import hashlib
import re
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

MAX_CHUNK_BYTES = 1024 * 1024
MARKER = ".orchestra-files"
"""Name of the marker, beside the blobs (``orchestra.files.marker``)."""
_KEY = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}")


@dataclass(frozen=True)
class Stored:
    """What was stored: its length, and its SHA-256 in hex."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Blob:
    """A blob as the home lists it. ``changed_at``: when its bytes were written, by the home's clock."""

    key: str
    changed_at: datetime


class FilesUnavailableError(Exception):
    """The home of files cannot be reached or does not work. Trying again may help. The text has no secrets."""


class BlobMissingError(Exception):
    """There is no blob with this key."""


class FileHome(Protocol):
    """Stores blobs. Memory does not grow with their length. Every method raises ``FilesUnavailableError``."""

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> Stored:
        """Store a blob, durably and completely or not at all. ``chunks``: at most 1 MiB each; their errors pass."""

    def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from ``start`` to before ``stop`` (None: the end), at most 1 MiB at once.

        Raises ``BlobMissingError``.
        """

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete blobs, at most 1,000 at once. A missing one counts as deleted."""

    async def presigned_url(self, key: str, seconds: int) -> str | None:
        """A URL under which anyone can get the blob for ``seconds``; None if the home has none.

        Making it needs no call to the home.
        """

    def blobs(self) -> AsyncIterator[Sequence[Blob]]:
        """All blobs, unfinished ones too, in batches of at most 1,000."""

    async def check(self) -> None:
        """Raise ``FilesUnavailableError`` unless the home can be reached and has a marker."""

    async def read_marker(self) -> str | None:
        """The text of the marker; None if there is none."""

    async def write_marker(self, text: str) -> None:
        """Write the marker, and create what the home needs."""


def new_key() -> str:
    """A key for a new blob, which cannot be guessed. Its first part spreads blobs over 256 folders."""
    text = secrets.token_hex(16)
    return f"{text[:2]}/{text[2:]}"


def is_key(text: str) -> bool:
    """Whether this has the form of a blob's key."""
    return _KEY.fullmatch(text) is not None


class Measured:
    """Passes chunks on, and measures them. After ``stop`` it raises ``CancelledError`` instead."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = chunks
        self._hash = hashlib.sha256()
        self._bytes = 0
        self.failure: BaseException | None = None
        self._stopped = False
        self._reader: asyncio.Task[object] | None = None

    def stop(self) -> None:
        """End the chunks, also if one is being waited for."""
        self._stopped = True
        if self._reader:
            self._reader.cancel()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks. If they raise, ``failure`` is the error."""
        try:
            self._reader = asyncio.current_task()
            async for chunk in self._chunks:
                self._bytes += len(chunk)
                await asyncio.to_thread(self._hash.update, chunk)
                yield chunk
                if self._stopped:
                    raise asyncio.CancelledError
                self._reader = asyncio.current_task()
        except BaseException as error:
            self.failure = error
            raise

    @property
    def stored(self) -> Stored:
        """What passed."""
        return Stored(self._bytes, self._hash.hexdigest())
