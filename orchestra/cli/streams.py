"""The standard streams of the command line: all three exist, and their failures are handled here."""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

# The command's work may be done all the same.
UNWRITTEN = 4
# As for a program ended by SIGPIPE.
READER_GONE = 141


class StreamError(Exception):
    """Standard input cannot be read, or standard output cannot be written. ``exit_code``: the command's exit code.

    Not an ``OSError``: verbs handle those themselves, for their own files and connections.
    """

    def __init__(self, what: str, error: OSError, exit_code: int) -> None:
        super().__init__(f"{what}: {error.strerror}")
        self.exit_code = exit_code


def _unread(error: OSError) -> StreamError:
    return StreamError("standard input cannot be read", error, 1)


class _Input(io.FileIO):
    def readinto(self, buffer: Any) -> int:
        try:
            return super().readinto(buffer)
        except OSError as error:
            raise _unread(error) from None

    def readall(self) -> bytes:
        try:
            return super().readall()
        except OSError as error:
            raise _unread(error) from None


class _Output(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            code = READER_GONE if error.errno == errno.EPIPE else UNWRITTEN
            raise StreamError("standard output cannot be written", error, code) from None


class _Errors(io.FileIO):
    def write(self, data: Any) -> int:
        with suppress(OSError):  # No reader is left, and the exit code reports it.
            return super().write(data)
        return len(data)


def open_streams() -> None:
    """Replace Python's streams. Characters that the encoding of standard output lacks are replaced."""
    # A closed stream's number is taken by one that always fails; else the next file or connection would get it.
    for number, way in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, way)
    kept = sys.stdin.errors if sys.stdin else None
    sys.stdin = _text(io.BufferedReader(_Input(0, closefd=False)), sys.stdin, errors=kept)
    sys.stdout = _text(io.BufferedWriter(_Output(1, "w", closefd=False)), sys.stdout, errors="replace")
    sys.stderr = _text(io.BufferedWriter(_Errors(2, "w", closefd=False)), sys.stderr, errors="backslashreplace")


def flush_output() -> None:
    """Flush standard output. Raises ``StreamError``."""
    sys.stdout.flush()


def drop_output() -> None:
    """Discard buffered output, and all further output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _text(buffer: Any, before: TextIO | None, errors: str | None) -> TextIO:
    return io.TextIOWrapper(
        buffer,
        encoding=before.encoding if before else "utf-8",
        errors=errors,
        # Errors show at the write.
        line_buffering=isinstance(buffer.raw, _Errors) or bool(before and getattr(before, "line_buffering", False)),
        write_through=bool(before and getattr(before, "write_through", False)),
    )
