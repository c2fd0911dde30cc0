"""The data folder of one embedded stack: data, logs, secret, state and control socket."""

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
from orchestra.files.home import MARKER

# Where Postgres keeps its data when it runs as another user that cannot reach the data folder.
SYSTEM_FOLDER = Path("/var/lib/llm-orchestra")
_MARK = ".orchestra-stack"
_MARK_TEXT = "A data folder of `orchestra up`, layout 1. `orchestra down --wipe` deletes it.\n"
# All that `up` creates in the folder, apart from the lock and the mark; a wipe deletes nothing else.
_FOLDERS = {
    "kafka": ("server.properties", "data"),
    "postgres": ("password", "password.new", "password.tmp", "data"),
    "logs": tuple(
        f"{part}.log{rotated}"
        for part in ("kafka", "postgres", "model", "migrations", "llm", "supervisor", "worker-*", "gateway-*")
        for rotated in ("", ".1")
    ),
    "run": ("*.ready",),
    "files": (MARKER, "unfinished", "[0-9a-f][0-9a-f]"),
}
_FILES = ("secret", "secret.tmp", "state.json", "state.tmp", "control.sock")
# Deleted last, so that an interrupted wipe can be repeated.
_LAST = ("lock", _MARK)
# Kafka takes a comma-separated list of folders; Java takes no names that are not Unicode.
_UNUSABLE = re.compile(r"[,\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class DataFolder:
    """Paths of one stack. ``path`` is absolute."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> "DataFolder":
        """The folder at ``path``, which need not exist yet."""
        return cls(Path(os.path.realpath(path)))  # ``Path.resolve`` raises at a loop of links.

    @property
    def kafka(self) -> Path:
        """Kafka's settings and data."""
        return self.path / "kafka"

    @property
    def postgres(self) -> Path:
        """Postgres' password and data, or a link to the data."""
        return self.path / "postgres"

    @property
    def files(self) -> Path:
        """The home of files."""
        return self.path / "files"

    @property
    def logs(self) -> Path:
        """Folder of the logs, one file per part."""
        return self.path / "logs"

    @property
    def socket(self) -> Path:
        """The supervisor's control socket."""
        return self.path / "control.sock"

    @property
    def state(self) -> Path:
        """What is running now; deleted by a clean stop."""
        return self.path / "state.json"

    def log(self, part: str) -> Path:
        """Path of a part's log."""
        return self.logs / f"{part}.log"

    def ready_file(self, part: str) -> Path:
        """The file that a part without a port creates when it is ready."""
        return self.path / "run" / f"{part}.ready"

    def create(self) -> None:
        """Create the folder, private to this user; as root, Postgres' user may pass through it.

        Raises ``FolderRefusedError`` for a folder that contains other files, and ``OSError``.
        """
        if _UNUSABLE.search(str(self.path)):
            raise FolderRefusedError(
                f"{str(self.path)!a} has a character that Kafka does not accept: choose another folder with --data"
            )
        if self.path.exists() and not self.path.is_dir():
            raise FolderRefusedError(f"{self.path} is not a folder: choose another with --data")
        if self.path.is_dir() and any(self.path.iterdir()) and not self.is_stack():
            raise FolderRefusedError(
                f"{self.path} is not empty, and `orchestra up` did not create it: choose another folder with --data"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        (self.path / _MARK).write_text(_MARK_TEXT)
        for folder in (self.kafka, self.logs, self.path / "run"):
            folder.mkdir(mode=0o700, exist_ok=True)

    def is_stack(self) -> bool:
        """Whether `up` created this folder: it has the mark, or the layout from before the mark existed."""
        if _is_file(self.path / _MARK):
            return True
        if not (
            _is_file(self.path / "lock") and all(_is_folder(self.path / name) for name in ("kafka", "logs", "run"))
        ):
            return False
        complete = _is_file(self.kafka / "server.properties") and _is_file(self.postgres / "password")
        # A start that failed early created fewer files; the folder has no others either.
        return complete or {path.name for path in self.path.iterdir()} <= {*_FOLDERS, *_FILES, *_LAST}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder's lock for one stack; the kernel releases it however the process ends.

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
        """The stack's secret, created the first time: 64 hex digits, readable by its owner only."""
        path = self.path / "secret"
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        return path.read_text()

    def token(self, purpose: str) -> str:
        """A token for one purpose: 64 hex digits that cannot be derived from other tokens, or without the secret."""
        return hmac.digest(self.secret().encode(), purpose.encode(), "sha256").hex()

    def write_state(self, state: dict[str, Any]) -> None:
        """Replace the state file atomically. It contains secrets, so only its owner may read it."""
        write_private(self.state, json.dumps(state, indent=2))

    def wipe(self) -> list[str]:
        """Delete what `up` created here, and the folder if nothing else is in it. The caller holds the folder's lock.

        Links are not followed, except to Postgres' data in the system folder. Returns one line, with the reason, for
        each path that is left; empty once the folder is gone. Raises ``FolderRefusedError``, before any change, if `up`
        did not create the folder, or if it contains the current folder or the home folder.
        """
        if not self.is_stack():
            raise FolderRefusedError(f"`orchestra up` did not create {self.path}: nothing was deleted")
        for name, place in (("the current folder", "."), ("the home folder", "~")):
            if Path(os.path.expanduser(place)).resolve().is_relative_to(self.path):  # noqa: PTH111 - never fails
                raise FolderRefusedError(f"{self.path} is {name} or contains it: nothing was deleted")
        problems: list[str] = []
        for path in self._ours():
            _remove(path, problems)
        for name in _FOLDERS:
            with suppress(OSError):
                (self.path / name).rmdir()
        if not problems:
            problems += [f"{path} was not created by `orchestra up`" for path in self._foreign()]
        if not problems:
            for name in _LAST:
                _remove(self.path / name, problems)
            if not problems:
                self.path.rmdir()
        return problems

    def _foreign(self) -> Iterator[Path]:
        """What is left once all our files are gone."""
        for path in self.path.iterdir():
            if path.name in _FOLDERS and _is_folder(path):
                yield from path.iterdir()
            elif path.name not in _LAST:
                yield path

    def _ours(self) -> Iterator[Path]:
        """What `up` created here, without links to somewhere else."""
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
    """Where this Postgres keeps its data when it cannot be inside the data folder."""
    return SYSTEM_FOLDER / hashlib.sha256(str(postgres.resolve()).encode()).hexdigest()[:16]


def open_private(path: Path) -> BinaryIO:
    """Open a file for appending that only its owner may read, even if others could before."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.fchmod(file, 0o600)
    except OSError:
        os.close(file)
        raise
    return os.fdopen(file, "ab")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, completely or not at all."""
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
