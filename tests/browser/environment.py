"""Where the pages are looked at: an environment of its own below `.cache`, a browser, and tools that read JS."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.tree import ROOT

HERE = Path(__file__).resolve().parent
CACHE = ROOT / ".cache/browser"
_UV = ROOT / ".bootstrap/bin/uv"
_LOCK = HERE / "requirements.lock"
_SECONDS = 600.0
# Characters of what a command printed.
_MAX_SHOWN = 5000
_BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_INSTALL = "apt-get install --no-install-recommends chromium fonts-inter fonts-dejavu-core"


class MissingError(Exception):
    """Something that is needed cannot be had on this machine; the text says what, and which command installs it."""


def python() -> Path:
    """The interpreter of the environment."""
    folder = CACHE / "python"
    made, wanted = folder / ".lock", _LOCK.read_text("utf-8")
    if not made.exists() or made.read_text("utf-8") != wanted:
        print(f"installing {_LOCK.name} into {folder.relative_to(ROOT)}", flush=True)
        run([_UV, "venv", "--quiet", "--clear", "--python", ROOT / ".bootstrap/bin/python", folder])
        to = folder / "bin/python"
        run([_UV, "pip", "install", "--quiet", "--python", to, "--require-hashes", "--requirement", _LOCK])
        made.write_text(wanted, "utf-8")
    return folder / "bin/python"


def browser() -> Path:
    """A Chromium: the one that CHROMIUM names, one on the PATH, or the one that the environment's library installs."""
    named = os.environ.get("CHROMIUM")
    for name in [named] if named else _BROWSERS:
        if found := shutil.which(name):
            return Path(found)
    if named:
        raise MissingError(f"CHROMIUM names no program: {named}")
    library, folder = python(), CACHE / "browsers"
    env = {**os.environ, "PLAYWRIGHT_BROWSERS_PATH": str(folder)}
    command = [library, "-m", "playwright", "install", "chromium"]
    try:
        run(command, env=env)
    except MissingError as error:
        raise MissingError(f"There is no Chromium ({error}). Install one: {_INSTALL}") from None
    return next(each for each in sorted(folder.glob("chromium-*/*/chrome")) if each.is_file())


def npm() -> Path:
    """The npm of the environment."""
    return python().with_name("npm")


def tools() -> tuple[Path, Path]:
    """A Node.js, and the folder in which it finds the compiler and the types that package-lock.json names."""
    bin, folder = python().parent, CACHE / "node"
    lock = (HERE / "package-lock.json").read_text("utf-8")
    made = folder / ".lock"
    if not made.exists() or made.read_text("utf-8") != lock:
        print(f"installing package-lock.json into {folder.relative_to(ROOT)}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        env = {**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
        run([npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], folder, env)
        made.write_text(lock, "utf-8")
    return bin / "node", folder


def vendored() -> dict[str, str]:
    """The version of each package whose files the console has."""
    lock = json.loads((ROOT / "gateway/console/vendor/vendor.lock.json").read_text("utf-8"))
    return {each["package"]: each["version"] for each in lock["packages"]}


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
