"""The data folder of one embedded stack: its parts' data, logs, secret, state and control socket."""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra.devstack.errors import AlreadyRunningError


@dataclass(frozen=True)
class DataFolder:
    """Where everything lies. ``path`` is absolute."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> "DataFolder":
        """The folder at ``path``, which need not exist yet."""
        return cls(path.resolve())

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
        """Make the folder. Closed to others; only Postgres' user may pass through it when we are root."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        for folder in (self.kafka, self.logs, self.path / "run"):
            folder.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for one stack; the kernel lets go of it however the process ends.

        Raises ``AlreadyRunningError``.
        """
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunningError(
                    f"a stack is already running on {self.path}: `orchestra status` shows it, `orchestra down` stops it"
                ) from None
            yield

    def secret(self) -> str:
        """The stack's secret, made the first time: 64 hex digits, readable by its owner only."""
        path = self.path / "secret"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32))
        return path.read_text()

    def write_state(self, state: dict[str, Any]) -> None:
        """Replace the state file in one step; it holds secrets, so only its owner may read it."""
        unfinished = self.state.with_suffix(".tmp")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(state, indent=2))
        unfinished.replace(self.state)

    def wipe(self) -> None:
        """Remove everything, Postgres' data included where they lie elsewhere."""
        data = self.postgres / "data"
        if data.is_symlink():
            shutil.rmtree(data.resolve(), ignore_errors=True)
        shutil.rmtree(self.path, ignore_errors=True)
