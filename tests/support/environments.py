"""Environments below `.cache` at the versions and hashes of a lock, for what `make test` does not need."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.tree import ROOT

_UV = ROOT / ".bootstrap/bin/uv"
# To install or fetch something.
_SECONDS = 600.0
# Characters of what a command printed.
_MAX_SHOWN = 5000


class MissingError(Exception):
    """Something that is needed cannot be had on this machine; the text says what, and why."""


def python_of(lock: Path, folder: Path) -> Path:
    """The interpreter of an environment with what this lock names. Raises ``MissingError``."""
    made, wanted, program = folder / ".lock", lock.read_text("utf-8"), folder / "bin/python"
    if not made.exists() or made.read_text("utf-8") != wanted:
        _say(f"installing {lock.name} into {folder.relative_to(ROOT)}")
        run([_UV, "venv", "--quiet", "--clear", "--python", ROOT / ".bootstrap/bin/python", folder])
        run([_UV, "pip", "install", "--quiet", "--python", program, "--require-hashes", "--requirement", lock])
        made.write_text(wanted, "utf-8")
    return program


def node_of(bin: Path, source: Path, folder: Path) -> Path:
    """The Node.js in ``bin``, with the packages that the lock in ``source`` names in ``folder``.

    No package runs a script at its installation. Raises ``MissingError``.
    """
    lock = (source / "package-lock.json").read_text("utf-8")
    made = folder / ".lock"
    if not made.exists() or made.read_text("utf-8") != lock:
        _say(f"installing package-lock.json into {folder.relative_to(ROOT)}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, folder)
        env = {**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
        run([bin / "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], folder, env)
        made.write_text(lock, "utf-8")
    return bin / "node"


def run(command: Sequence[str | Path], folder: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Run a command, and return what it prints. Raises ``MissingError``."""
    name = " ".join(Path(word).name for word in map(str, command[:3]))
    try:
        done = subprocess.run(
            [*map(str, command)], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        raise MissingError(f"{name}: {error}") from None
    if done.returncode:
        raise MissingError(f"{name}: {(done.stderr or done.stdout).strip()[-_MAX_SHOWN:]}")
    return done.stdout


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
