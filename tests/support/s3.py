"""A real S3-compatible server: versitygw over a folder, built once from its Go module and kept in the user's cache."""

import fcntl
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import platformdirs

from orchestra.devstack.child import Child
from orchestra.devstack.environment import plain_environment
from orchestra.devstack.part import Part
from orchestra.devstack.ports import HOST
from tests.support.ports import free_port, listens

_MODULE = "github.com/versity/versitygw@v1.8.0"
# Of the module; its own go.sum has those of all that it needs.
_SUM = "h1:au+wI+aybno/STsQiSm35Uu6Q6iK5MWReQxgO6SEMFc="
BUCKET = "kept"
_PREFIX = "some/prefix"
_BUILD_SECONDS = 900


class S3:
    """A running server with one bucket. ``env``: what a service needs to use it, under ``prefix``."""

    def __init__(self, child: Child, folder: Path, port: int, key: str, secret: str) -> None:
        self._child = child
        self.folder = folder
        self.env = {
            "FILES_URL": f"s3://{BUCKET}/{_PREFIX}",
            "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
        }

    async def go_away(self) -> None:
        """End it as a crash would."""
        await self._child.kill()

    async def come_back(self) -> None:
        """Start it again with what it had."""
        await self._child.start()

    def blobs(self) -> list[Path]:
        """The objects of blobs, without the marker."""
        return list((self.folder / BUCKET / _PREFIX).glob("??/*"))

    def parts_left(self) -> list[Path]:
        """Files of uploads that were neither finished nor taken back."""
        return [path for path in (self.folder / BUCKET).rglob("*") if ".sgwtmp" in path.parts and path.is_file()]


@asynccontextmanager
async def open_s3(folder: Path) -> AsyncIterator[S3]:
    """A server over this folder."""
    port, key, secret = free_port(), secrets.token_hex(8), secrets.token_hex(16)
    (folder / "data" / BUCKET).mkdir(parents=True)
    part = Part(
        name="s3",
        command=[str(_program()), "--port", f"{HOST}:{port}", "posix", str(folder / "data")],
        env={**plain_environment(), "ROOT_ACCESS_KEY": key, "ROOT_SECRET_KEY": secret},
        ready=lambda: listens(port),
    )
    child = Child(part, folder / "s3.log")
    try:
        await child.start()
        yield S3(child, folder / "data", port, key, secret)
    finally:
        await child.kill()


def _program() -> Path:
    """The program; built if the cache lacks it, which takes some minutes."""
    cache = platformdirs.user_cache_path("llm-orchestra") / "go"
    cache.mkdir(parents=True, exist_ok=True)
    program = cache / _MODULE.replace("/", "_")
    with (cache / "lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not program.exists():
            _build(program)
    return program


def _build(program: Path) -> None:
    go, env = str(Path(sys.prefix) / "bin/go"), {**os.environ, "GOTOOLCHAIN": "local"}
    said = subprocess.run(
        [go, "mod", "download", "-json", _MODULE], env=env, capture_output=True, text=True, check=True
    )
    module = json.loads(said.stdout)
    assert module["Sum"] == _SUM, f"{_MODULE} is not what it was: {module['Sum']}"
    unfinished = program.with_suffix(f".{os.getpid()}")
    command = [go, "build", "-mod=readonly", "-o", str(unfinished), "./cmd/versitygw"]
    subprocess.run(command, cwd=module["Dir"], env=env, check=True, timeout=_BUILD_SECONDS)
    unfinished.replace(program)
