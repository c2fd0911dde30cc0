"""The programs that a release is made with, in the environment that runs this."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
# What runs from a checkout (`runtime`), and what images run: parts of it.
LOCKS = {
    path.stem.removeprefix("requirements-"): path
    for path in sorted(ROOT.glob("requirements-*.lock"))
    if path.name != "requirements-bootstrap.lock"
}
UV = ROOT / ".bootstrap/bin/uv"
_BIN = Path(sys.executable).parent


def tool(name: str) -> Path:
    """A program of the lock of releases."""
    return _BIN / name


def run(*command: str | Path) -> None:
    """Run a command in the project's folder. Raises ``CalledProcessError`` if it fails."""
    subprocess.run([str(word) for word in command], cwd=ROOT, check=True)


def installed(name: str, lock: Path) -> Path:
    """A new environment with exactly what a lock names: the path of its Python."""
    folder = ROOT / ".cache/release" / name
    run(UV, "venv", "--quiet", "--clear", "--python", ROOT / ".bootstrap/bin/python", folder)
    python = folder / "bin/python"
    run(UV, "pip", "install", "--quiet", "--python", python, "--require-hashes", "--requirement", lock)
    return python
