"""Files: upload, get, list, download and delete them."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

from orchestra.client.caller import Call, Caller, Resuming
from orchestra.client.errors import ClientError, UnreachableError
from orchestra.client.pages import AsyncItems
from orchestra.client.requests import one
from orchestra.client.wire import WireResponse
from schemas.api.files import DeletedFile, FileList, FileObject, Purpose

_PATH = "/v1/files"


class AsyncFiles:
    """The files of the caller. Calls raise ``ClientError``, with code ``file_not_found`` for an id that is unknown.

    No call holds more of a file in memory than a chunk of it, except ``content``. Files of this machine are read and
    written on the caller's thread.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def upload(
        self,
        file: Path | str | BinaryIO,
        *,
        filename: str | None = None,
        purpose: Purpose | str = Purpose.USER_DATA,
    ) -> FileObject:
        """Upload a file: a path, or an open binary file from where it stands.

        ``filename``: the name that it gets; None: its own. An upload that broke off is not repeated, because it may
        have made a file; nor is one of a file that cannot seek. Raises ``OSError`` if the file cannot be read.
        """
        if isinstance(file, Path | str):
            with Path(file).open("rb") as opened:
                return await self._upload(opened, filename or Path(file).name, purpose)
        return await self._upload(file, filename or Path(str(getattr(file, "name", "file"))).name, purpose)

    async def _upload(self, file: BinaryIO, filename: str, purpose: Purpose | str) -> FileObject:
        source = _source(file)

        def form() -> Mapping[str, Any]:
            if isinstance(source, _Seekable):
                source.seek(0)
            fields = {"purpose": str(purpose)}
            return {"data": fields, "files": {"file": (filename, source, "application/octet-stream")}}

        call = Call("POST", _PATH, form=form, repeatable=False)
        patience = self._caller.patience(None if isinstance(source, _Seekable) else 0)
        return (await self._caller.call(call, patience)).read(FileObject)

    async def get(self, file_id: str) -> FileObject:
        """A file, without its bytes."""
        return (await self._caller.call(Call("GET", one(_PATH, file_id)))).read(FileObject)

    async def download(self, file_id: str, target: Path | str | BinaryIO) -> None:
        """Write the bytes of a file into an open binary file, or to a path, which they replace once all have arrived.

        A download that breaks off continues where it was. Raises ``OSError`` if the target cannot be written.
        """
        if isinstance(target, Path | str):
            with _appearing(Path(target)) as opened:
                await self.download(file_id, opened)
            return
        async with self.chunks(file_id) as chunks:
            async for chunk in chunks:
                target.write(chunk)

    async def content(self, file_id: str) -> bytes:
        """The bytes of a file, all in memory."""
        async with self.chunks(file_id) as chunks:
            return b"".join([chunk async for chunk in chunks])

    def chunks(self, file_id: str) -> "AsyncChunks":
        """Iterate over the bytes of a file as they arrive. Use it as a context manager."""
        return AsyncChunks(self._caller, file_id)

    async def delete(self, file_id: str) -> None:
        """Delete a file."""
        answer = await self._caller.call(Call("DELETE", one(_PATH, file_id), is_deletion=True))
        if answer.body:
            answer.read(DeletedFile)

    def list(
        self,
        *,
        purpose: Purpose | str | None = None,
        order: Literal["asc", "desc"] | None = None,
        page_size: int = 1000,
    ) -> AsyncItems[FileObject]:
        """Iterate over the files, newest first, or oldest first with ``order="asc"``. ``page_size``: 1 to 1,000."""
        params = {"purpose": purpose, "order": order, "limit": page_size}
        return AsyncItems(self._caller, _PATH, FileList, params, _by_last)


class AsyncChunks(Resuming):
    """The bytes of one file, in chunks, over as many connections as it takes."""

    def __init__(self, caller: Caller, file_id: str) -> None:
        super().__init__(caller, caller.patience())
        self._file_id = file_id
        self._done = 0
        self._total: int | None = None
        self._etag = ""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if (chunk := await self._chunk()) is None:
            await self.close()
            raise StopAsyncIteration
        self._patience.heard(self._caller.reconnect_seconds)
        self._patience.progressed()
        self._done += len(chunk)
        return chunk

    def _call(self) -> Call:
        # The length of a compressed body would be another one.
        headers = {"Accept-Encoding": "identity"}
        if self._done:
            headers |= {"Range": f"bytes={self._done}-", "If-Range": self._etag}
        return Call("GET", f"{one(_PATH, self._file_id)}/content", headers=headers)

    def _opened(self, response: WireResponse) -> None:
        headers = response.head.headers
        etag = headers.get("etag", "")
        whole = headers.get("content-length") if response.head.status_code == 200 else None
        length = whole or headers.get("content-range", "").rpartition("/")[2]
        first = headers.get("content-range", "bytes 0-").removeprefix("bytes ").partition("-")[0]
        if not length.isdigit() or first != str(self._done) or (self._done and etag != self._etag):
            raise ClientError(f"{self._url} did not send the file as a gateway does")
        self._total, self._etag = int(length), etag

    def _closed(self) -> ClientError | None:
        if self._done == self._total:
            return None
        return UnreachableError(f"{self._url} did not send all of the file", retryable=True)


class _Seekable:
    """The rest of an open file, as a file of its own."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = file.tell()

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def tell(self) -> int:
        return self._file.tell() - self._start

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset + (self._start if whence == os.SEEK_SET else 0), whence) - self._start


class _Stream:
    """An open file of unknown length, such as a pipe."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


def _source(file: BinaryIO) -> _Seekable | _Stream:
    return _Seekable(file) if file.seekable() else _Stream(file)


@contextmanager
def _appearing(target: Path) -> Iterator[BinaryIO]:
    """A new file beside the target, which becomes the target at the end."""
    number, name = tempfile.mkstemp(dir=target.parent, prefix=".orchestra-")
    unfinished = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            yield file
        unfinished.replace(target)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _by_last(page: FileList) -> tuple[Sequence[FileObject], Mapping[str, Any] | None]:
    return page.data, {"after": page.data[-1].id} if page.has_more and page.data else None
