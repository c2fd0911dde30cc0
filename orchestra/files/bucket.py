"""A bucket of an S3-compatible server as the home of files. Loaded only where FILES_URL names one."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from orchestra.files.home import (
    MARKER,
    MAX_CHUNK_BYTES,
    Blob,
    BlobMissingError,
    FilesUnavailableError,
    Measured,
    Stored,
    is_key,
)
from orchestra.settings import FileSettings

# The smallest part that S3 takes. With one part on its way while the next one fills, an upload holds two of them.
_PART_BYTES = 5 * 1024 * 1024
_PARTS_AT_ONCE = 1
_MAX_AT_ONCE = 1000
# A part of an upload or a chunk of a download is one request: it may take this long, with all its retries.
_REQUEST_SECONDS = 30
_CONNECT_SECONDS = 5
# For a cancelled upload to take its parts back: less than a gateway has between SIGTERM and SIGKILL.
_ABORT_SECONDS = 5
_MAX_RETRIES = 2


class Bucket:
    """Keeps each blob in an object. An object appears when its last part has been stored."""

    def __init__(self, settings: FileSettings, bucket: str, prefix: str) -> None:
        self._store = S3Store(
            bucket,
            prefix=prefix or None,
            config=_config(settings),
            client_options={
                "allow_http": True,
                "timeout": timedelta(seconds=_REQUEST_SECONDS),
                "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
            },
            retry_config={"max_retries": _MAX_RETRIES, "retry_timeout": timedelta(seconds=_REQUEST_SECONDS)},
        )

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> Stored:
        """Store a blob. If ``chunks`` raise, or this task is cancelled, the parts that were sent are taken back."""
        measured = Measured(chunks)
        putting = asyncio.ensure_future(self._put(key, measured))
        try:
            await asyncio.shield(putting)
        except asyncio.CancelledError:
            measured.stop()
            await asyncio.wait([putting], timeout=_ABORT_SECONDS)
            putting.cancel()
            putting.add_done_callback(lambda done: done.cancelled() or done.exception())  # Else asyncio logs it.
            raise
        return measured.stored

    async def _put(self, key: str, measured: Measured) -> None:
        try:
            with _translated():
                await obstore.put_async(
                    self._store, key, aiter(measured), use_multipart=True, chunk_size=_PART_BYTES,
                    max_concurrency=_PARTS_AT_ONCE,
                )  # fmt: skip
        except Exception:
            if measured.failure:
                raise measured.failure from None
            raise

    async def get(self, key: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of a blob. Each chunk is a request, so that a slow reader holds no connection to the server."""
        with _translated():
            if stop is None:
                stop = (await obstore.head_async(self._store, key))["size"]
        for at in range(start, stop, MAX_CHUNK_BYTES):
            with _translated():
                chunk = await obstore.get_range_async(self._store, key, start=at, end=min(at + MAX_CHUNK_BYTES, stop))
            yield bytes(chunk)

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete blobs."""
        if keys:
            with _translated():
                await obstore.delete_async(self._store, list(keys))

    async def presigned_url(self, key: str, seconds: int) -> str | None:
        """A URL of the server itself."""
        with _translated():
            return await obstore.sign_async(self._store, "GET", key, timedelta(seconds=seconds))

    async def blobs(self) -> AsyncIterator[Sequence[Blob]]:
        """All blobs. Parts of uploads that a crash left are not among them: a rule of the bucket removes those."""
        with _translated():
            async for batch in obstore.list(self._store, chunk_size=_MAX_AT_ONCE):
                yield [Blob(each["path"], each["last_modified"]) for each in batch if is_key(each["path"])]

    async def check(self) -> None:
        """Check that the marker can be seen."""
        try:
            with _translated():
                await obstore.head_async(self._store, MARKER)
        except BlobMissingError:
            raise FilesUnavailableError("the bucket of FILES_URL has no marker of a gateway") from None

    async def read_marker(self) -> str | None:
        """The text of the marker."""
        try:
            with _translated():
                found = await obstore.get_async(self._store, MARKER)
                return bytes(await found.bytes_async()).decode("utf-8", "replace")
        except BlobMissingError:
            return None

    async def write_marker(self, text: str) -> None:
        """Write the marker. The bucket itself must exist."""
        with _translated():
            await obstore.put_async(self._store, MARKER, text.encode())


def _config(settings: FileSettings) -> Any:
    """The settings of the bucket. What is unset, the library takes from the environment or from the machine's role."""
    secret, token = settings.aws_secret_access_key, settings.aws_session_token
    named = {
        "endpoint": settings.aws_endpoint_url,
        "region": settings.aws_region,
        "access_key_id": settings.aws_access_key_id,
        "secret_access_key": secret and secret.get_secret_value(),
        "session_token": token and token.get_secret_value(),
    }
    return {name: value for name, value in named.items() if value}


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise BlobMissingError from None
    except (BaseError, OSError) as error:
        # The texts of these errors may contain signed URLs.
        raise FilesUnavailableError(f"the bucket of FILES_URL: {type(error).__name__}") from None
