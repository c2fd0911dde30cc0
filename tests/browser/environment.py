"""Where the pages are looked at: an environment of its own below `.cache`, a browser, and tools that read JS."""

import json
import os
import shutil
from pathlib import Path

from tests.support.environments import MissingError, node_of, python_of, run
from tests.support.tree import ROOT

HERE = Path(__file__).resolve().parent
CACHE = ROOT / ".cache/browser"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_INSTALL = "apt-get install --no-install-recommends chromium fonts-inter fonts-dejavu-core"


def python() -> Path:
    """The interpreter of the environment."""
    return python_of(HERE / "requirements.lock", CACHE / "python")


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
    folder = CACHE / "node"
    return node_of(python().parent, HERE, folder), folder


def vendored() -> dict[str, str]:
    """The version of each package whose files the console has."""
    lock = json.loads((ROOT / "gateway/console/vendor/vendor.lock.json").read_text("utf-8"))
    return {each["package"]: each["version"] for each in lock["packages"]}
