"""Files between HTTP, Postgres and their home. The bytes are stored first, then the row that makes them a file."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from uuid import UUID

import structlog

from gateway.erasing import Erasing
from gateway.http.uploads import Upload
from gateway.owner_turns import OwnerTurns
from gateway.people.principal import Principal
from gateway.settings import GatewaySettings
from gateway.timings import TIMINGS, Timings
from orchestra.files import marker
from orchestra.files.home import BlobMissingError, FileHome, FilesUnavailableError, new_key
from orchestra.store import files
from orchestra.store.claims import Owner
from orchestra.store.database import Database
from orchestra.store.files import NewFile, StoredFile
from schemas.errors import ErrorCode, OrchestraError

# Uploads of one owner at this gateway: each holds a few MiB.
_UPLOADS_AT_ONCE = 4
_UPLOADS_WAITING = 20
_WAIT_SECONDS = 30.0
# Far below the age at which a blob without a row is swept.
_UPLOAD_SECONDS = 6 * 3600.0
# The purpose of stored bodies. Callers cannot name it.
_OF_REQUESTS = "request"
_NOT_KEPT = "files are not offered here: FILES_URL is not set"

log = structlog.get_logger()


class Files:
    """Stores and returns files. ``home`` None: files are not offered."""

    def __init__(
        self,
        database: Database,
        home: FileHome | None,
        settings: GatewaySettings,
        erasing: Erasing,
        timings: Timings = TIMINGS,
    ) -> None:
        self._database = database
        self._kept_at = home
        self._secrets: Sequence[bytes] = settings.secrets
        self._max_bytes = settings.max_file_bytes
        self._max_owned = settings.max_file_bytes_per_owner
        self._days = settings.files_retention_days
        self._erasing = erasing
        self._timings = timings
        self._uploads = OwnerTurns(_UPLOADS_AT_ONCE, max_waiting=_UPLOADS_WAITING, max_seconds=_WAIT_SECONDS)
        self._claimed = False
        self.problem: str | None = None
        """What is wrong with the home of files; None: nothing, as far as is known."""

    async def run(self) -> None:
        """Mark the home, and check it repeatedly until cancelled."""
        if self._kept_at is None:
            return
        while True:
            before, self.problem = self.problem, await self._look(self._kept_at)
            if self.problem and not before:
                log.warning("files_unavailable", reason=self.problem)
            elif before and not self.problem:
                log.info("files_available")
            await asyncio.sleep(self._timings.look_at_files if self.problem is None else self._timings.retry_files)

    async def receive(self, caller: Principal, upload: Upload) -> StoredFile:
        """Store an uploaded file.

        Raises ``FILE_TOO_LARGE``, ``QUOTA_EXCEEDED``, ``INVALID_REQUEST``, ``TOO_LARGE``, ``TOO_SLOW``,
        ``NOT_SUPPORTED``, ``TOO_MANY_CALLS``, ``OWNER_ERASED`` and ``UNAVAILABLE``. Nothing is visible then; what was
        stored is swept.
        """
        home = self._home()
        self._erasing.check(caller)
        async with self._uploads.turn(caller.owner):
            left = self._max_owned - await files.stored_bytes(self._database, caller.owner)
            allow = self._allow(left)
            allow(upload.claimed_bytes)
            with _translated():
                await self._claim(home)
                return await self._store(home, caller, upload, allow)

    async def keep_body(
        self, owner: Owner, id: str, request_id: UUID, chunks: AsyncIterator[bytes], *, kept_by_messages: bool
    ) -> None:
        """Store the body of a request as a file that only the request has.

        Raises ``QUOTA_EXCEEDED``, ``NOT_SUPPORTED``, ``TOO_MANY_CALLS`` and ``UNAVAILABLE``.
        """
        home, key = self._home(), new_key()
        async with self._uploads.turn(owner):
            with _translated():
                await self._claim(home)
                stored = await home.put(key, chunks)
            new = NewFile(
                _OF_REQUESTS, "", "application/octet-stream", stored.bytes, stored.sha256, key, request_id,
                kept_by_messages,
            )  # fmt: skip
            if await files.add(self._database, owner, new, max_bytes=self._max_owned, id=id) is None:
                with suppress(FilesUnavailableError):
                    await home.delete([key])
                raise self._quota_exceeded()

    async def content(self, file: StoredFile, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes of a file from ``start`` to before ``stop``. Raises ``FILE_NOT_FOUND`` and ``UNAVAILABLE``.

        The first chunk has been read when this returns.
        """
        chunks = self._home().get(file.blob, start, stop)
        with _translated():
            first = await anext(chunks, b"")
        return _after(first, chunks)

    async def _store(
        self, home: FileHome, caller: Principal, upload: Upload, allow: Callable[[int], None]
    ) -> StoredFile:
        key = new_key()
        try:
            async with asyncio.timeout(_UPLOAD_SECONDS):
                stored = await home.put(key, upload.chunks(allow))
        except TimeoutError:
            raise OrchestraError(ErrorCode.TOO_SLOW) from None
        new = NewFile(upload.purpose, upload.filename, upload.media_type, stored.bytes, stored.sha256, key)
        # If this raises, the row may have been written all the same, so the blob stays.
        kept = await files.add(self._database, caller.owner, new, days=self._days, max_bytes=self._max_owned)
        if kept is None:
            with suppress(FilesUnavailableError):
                await home.delete([key])
            raise self._quota_exceeded()
        return kept

    def _allow(self, left: int) -> Callable[[int], None]:
        """A check whether a file may have this length."""

        def allow(size: int) -> None:
            if size > self._max_bytes:
                raise OrchestraError(ErrorCode.FILE_TOO_LARGE, f"file: exceeds the limit of {self._max_bytes} bytes")
            if size > left:
                raise self._quota_exceeded()

        return allow

    def _quota_exceeded(self) -> OrchestraError:
        detail = f"your files would take more than {self._max_owned} bytes; delete some, or wait until they expire"
        return OrchestraError(ErrorCode.QUOTA_EXCEEDED, detail)

    def _home(self) -> FileHome:
        if self._kept_at is None:
            raise OrchestraError(ErrorCode.NOT_SUPPORTED, _NOT_KEPT)
        return self._kept_at

    async def _look(self, home: FileHome) -> str | None:
        try:
            await self._claim(home)
            await home.check()
        except (FilesUnavailableError, marker.ForeignHomeError) as error:
            return str(error)
        return None

    async def _claim(self, home: FileHome) -> None:
        if not self._claimed:
            await marker.claim(home, self._secrets)
            self._claimed = True


async def _after(first: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in chunks:
        yield chunk


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (FilesUnavailableError, marker.ForeignHomeError) as error:
        raise OrchestraError(ErrorCode.UNAVAILABLE, str(error)) from None
    except BlobMissingError:
        raise OrchestraError(ErrorCode.FILE_NOT_FOUND) from None
