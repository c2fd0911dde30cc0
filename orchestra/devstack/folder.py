"""The data folder of one embedded stack: its parts' data, logs, secret, state and control socket."""

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO

from orchestra.devstack.errors import AlreadyRunningError, FolderRefusedError

# Where Postgres keeps its data when it runs as another user, who cannot reach the data folder.
SYSTEM_FOLDER = Path("/var/lib/llm-orchestra")
_MARK = ".orchestra-stack"
_MARK_TEXT = "A data folder of `orchestra up`, layout 1. `orchestra down --wipe` removes it.\n"
# All that `up` puts into the folder, beside the lock and the mark; a wipe removes nothing else.
_FOLDERS = {
    "kafka": ("server.properties", "data"),
    "postgres": ("password", "password.new", "password.tmp", "data"),
    "logs": tuple(
        f"{part}.log{rotated}"
        for part in ("kafka", "postgres", "model", "migrations", "llm", "supervisor", "worker-*", "gateway-*")
        for rotated in ("", ".1")
    ),
    "run": ("*.ready",),
}
_FILES = ("secret", "secret.tmp", "state.json", "state.tmp", "control.sock")
# Removed at the very end, so that a wipe that was interrupted can be repeated.
_LAST = ("lock", _MARK)
# Kafka takes a list of folders, separated by commas; Java takes no names that are not Unicode.
_UNUSABLE = re.compile(r"[,\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class DataFolder:
    """Where everything lies. ``path`` is absolute."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> "DataFolder":
        """The folder at ``path``, which need not exist yet."""
        return cls(Path(os.path.realpath(path)))  # ``Path.resolve`` raises where links go round.

    @property
    def kafka(self) -> Path:
        """Kafka's settings and data."""
        return self.path / "kafka"

    @property
    def postgres(self) -> Path:
        """Postgres' password and data, or a link to them."""
        return self.path / "postgres"

    @property
    def logs(self) -> Path:
        """One log file a part."""
        return self.path / "logs"

    @property
    def socket(self) -> Path:
        """Where the supervisor takes orders."""
        return self.path / "control.sock"

    @property
    def state(self) -> Path:
        """What runs now; gone after a clean stop."""
        return self.path / "state.json"

    def log(self, part: str) -> Path:
        """The log file of a part."""
        return self.logs / f"{part}.log"

    def ready_file(self, part: str) -> Path:
        """The file that a part without a port creates when it is ready."""
        return self.path / "run" / f"{part}.ready"

    def create(self) -> None:
        """Make the folder. Closed to others; only Postgres' user may pass through it when we are root.

        Raises ``FolderRefusedError`` where other things are kept, and ``OSError``.
        """
        if _UNUSABLE.search(str(self.path)):
            raise FolderRefusedError(
                f"{str(self.path)!a} has a character that Kafka cannot take: choose another folder with --data"
            )
        if self.path.exists() and not self.path.is_dir():
            raise FolderRefusedError(f"{self.path} is no folder: choose another with --data")
        if self.path.is_dir() and any(self.path.iterdir()) and not self.is_stack():
            raise FolderRefusedError(
                f"{self.path} is not empty, and `orchestra up` did not make it: choose another folder with --data"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        (self.path / _MARK).write_text(_MARK_TEXT)
        for folder in (self.kafka, self.logs, self.path / "run"):
            folder.mkdir(mode=0o700, exist_ok=True)

    def is_stack(self) -> bool:
        """Whether `up` made this folder: it bears the mark, or has the layout of the time before there was one."""
        if _is_file(self.path / _MARK):
            return True
        if not (
            _is_file(self.path / "lock") and all(_is_folder(self.path / name) for name in ("kafka", "logs", "run"))
        ):
            return False
        complete = _is_file(self.kafka / "server.properties") and _is_file(self.postgres / "password")
        # A start that failed early left less, but nothing of anybody else's is there either.
        return complete or {path.name for path in self.path.iterdir()} <= {*_FOLDERS, *_FILES, *_LAST}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for one stack; the kernel lets go of it however the process ends.

        Raises ``AlreadyRunningError``.
        """
        with open_private(self.path / "lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                here = shlex.join(("--data", str(self.path)))
                raise AlreadyRunningError(
                    f"a stack is already running on {self.path}: `orchestra status {here}` shows it, "
                    f"`orchestra down {here}` stops it"
                ) from None
            yield

    def secret(self) -> str:
        """The stack's secret, made the first time: 64 hex digits, readable by its owner only."""
        path = self.path / "secret"
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        return path.read_text()

    def token(self, purpose: str) -> str:
        """A token for one purpose, which nobody can tell from the others or has without the secret: 64 hex digits."""
        return hmac.digest(self.secret().encode(), purpose.encode(), "sha256").hex()

    def write_state(self, state: dict[str, Any]) -> None:
        """Replace the state file in one step; it holds secrets, so only its owner may read it."""
        write_private(self.state, json.dumps(state, indent=2))

    def wipe(self) -> list[str]:
        """Remove what `up` put here, and the folder if nothing else is in it; the caller holds it.

        Links are not followed, but for the one to Postgres' data where they lie in the system folder. What is still
        there afterwards, one line each with the reason; empty when the folder is gone. Raises ``FolderRefusedError``,
        having touched nothing, where `up` did not make the folder, or where we stand in it.
        """
        if not self.is_stack():
            raise FolderRefusedError(f"`orchestra up` did not make {self.path}: nothing is removed")
        for name, place in (("the present folder", "."), ("the home folder", "~")):
            if Path(os.path.expanduser(place)).resolve().is_relative_to(self.path):  # noqa: PTH111 - never fails
                raise FolderRefusedError(f"{self.path} is {name}, or {name} lies in it: nothing is removed")
        problems: list[str] = []
        for path in self._ours():
            _remove(path, problems)
        for name in _FOLDERS:
            with suppress(OSError):
                (self.path / name).rmdir()
        if not problems:
            problems += [f"{path} is none of its own" for path in self._foreign()]
        if not problems:
            for name in _LAST:
                _remove(self.path / name, problems)
            if not problems:
                self.path.rmdir()
        return problems

    def _foreign(self) -> Iterator[Path]:
        """What is left once all that is ours is gone."""
        for path in self.path.iterdir():
            if path.name in _FOLDERS and _is_folder(path):
                yield from path.iterdir()
            elif path.name not in _LAST:
                yield path

    def _ours(self) -> Iterator[Path]:
        """What `up` put here, where it is no link into something else."""
        elsewhere = system_folder(self.postgres)
        data = self.postgres / "data"
        if data.is_symlink() and data.readlink() == elsewhere and not elsewhere.is_symlink():
            yield elsewhere
        for folder, patterns in _FOLDERS.items():
            if _is_folder(self.path / folder):
                present = list((self.path / folder).iterdir())
                yield from (path for path in present if any(fnmatch(path.name, pattern) for pattern in patterns))
        yield from (self.path / name for name in _FILES)


def system_folder(postgres: Path) -> Path:
    """Where the data of the Postgres at this folder lie when they cannot lie in it."""
    return SYSTEM_FOLDER / hashlib.sha256(str(postgres.resolve()).encode()).hexdigest()[:16]


def open_private(path: Path) -> BinaryIO:
    """A file to append to, which only its owner may read, also where others could before."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.fchmod(file, 0o600)
    except OSError:
        os.close(file)
        raise
    return os.fdopen(file, "ab")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    unfinished = path.with_suffix(".tmp")
    unfinished.touch(mode=0o600)
    unfinished.write_text(text)
    unfinished.replace(path)


def _remove(path: Path, problems: list[str]) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        problems.append(f"{error.filename or path}: {error.strerror}")


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
