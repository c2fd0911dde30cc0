"""The previous release, out of the repository by its commit, and able to run beside the code as it is."""

import json
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

from orchestra.devstack.part import Part
from tests.support.tree import PACKAGES, ROOT

COMMIT_FILE = ROOT / "tests/live/previous_release"
# What the services run on; the tests' own environment has just these versions of it. Release 0.1.0 has the last one.
_LOCKS = ("requirements-llm.lock", "requirements-pipeline.lock", "requirements-services.lock")
_UV = ROOT / ".bootstrap/bin/uv"
_WHERE = """import importlib, json, sys
print(json.dumps({name: list(importlib.import_module(name).__path__) for name in sys.argv[1:]}))"""


@dataclass(frozen=True)
class Release:
    """A release, installed in ``folder``, and the Python that runs it with the libraries of its own lock."""

    folder: Path
    python: str

    def run(self, part: Part) -> Part:
        """The same part, from this release."""
        command, env = [self.python, *part.command[1:]], {**part.env, **self._env}
        return replace(part, name=f"previous-{part.name}", command=command, env=env)

    def packages(self) -> dict[str, list[str]]:
        """Where this release's Python finds each of our packages that it has."""
        names = [name for name in PACKAGES if (self.folder / name).is_dir()]
        command = [self.python, "-P", "-c", _WHERE, *names]
        found: dict[str, list[str]] = json.loads(_done(command, "The previous release cannot be imported", self._env))
        return found

    @property
    def _env(self) -> dict[str, str]:
        # Before the present code, which an editable install puts behind it.
        return {"PYTHONPATH": str(self.folder)}


def previous_release(folder: Path) -> Release:
    """The release that ``COMMIT_FILE`` names, unpacked into this folder. An assertion fails when it cannot be had."""
    check_out(COMMIT_FILE.read_text("utf-8").strip(), ROOT, folder)
    release = Release(_installed(folder), _python(folder))
    found = release.packages()
    assert {name: [str(release.folder / name)] for name in found} == found
    return release


def check_out(commit: str, repository: Path, folder: Path) -> None:
    """Unpack the files of a commit. An assertion fails when the repository does not have it, and says what to do."""
    assert re.fullmatch(r"[0-9a-f]{40}", commit), f"{COMMIT_FILE.name} holds no full commit hash: {commit!r}"
    archive = subprocess.run(["git", "-C", str(repository), "archive", commit], capture_output=True, check=False)
    assert archive.returncode == 0, (
        f"The previous release, commit {commit}, is not in this repository. A shallow clone gets it with "
        f"`git fetch --unshallow`, another one with `git fetch origin {commit}`. {archive.stderr.decode().strip()}"
    )
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")


def _installed(folder: Path) -> Path:
    """What is installed of this release: its packages, and what says its version."""
    built, installed = folder / "dist", folder / "installed"
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(built)]
    _done(command, "The previous release cannot be built", cwd=folder)
    (wheel,) = built.glob("*.whl")
    with ZipFile(wheel) as files:
        files.extractall(installed)
    return installed


def _python(folder: Path) -> str:
    """Our own Python where it has the libraries that this release is locked to, else one of the release's own."""
    locks = [folder / name for name in _LOCKS if (folder / name).exists()]
    if all((ROOT / lock.name).exists() and lock.read_bytes() == (ROOT / lock.name).read_bytes() for lock in locks):
        return sys.executable
    environment, why = folder / ".venv", "The libraries of the previous release cannot be installed"
    python = str(environment / "bin/python")
    _done([str(_UV), "venv", "--no-project", "--python", sys.executable, str(environment)], why)
    _done([str(_UV), "pip", "sync", "--python", python, "--require-hashes", *map(str, locks)], why)
    return python


def _done(command: list[str], why: str, env: dict[str, str] | None = None, cwd: Path = ROOT) -> bytes:
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, check=False)
    assert done.returncode == 0, f"{why}: {done.stderr.decode()}"
    return done.stdout
