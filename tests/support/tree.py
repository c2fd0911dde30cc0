"""The project's own files and modules."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Copies of other people's files.
VENDOR = ROOT / "gateway/console/vendor"
PACKAGES = ("schemas", "orchestra", "gateway", "workers", "llm_service", "migrations")


def project_files(below: Path = ROOT) -> Iterator[Path]:
    """Every file that is the project's, not installed, cached or made by running it, in a folder and those below it."""
    ignored = [line for line in (ROOT / ".gitignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    folders = {line.rstrip("/") for line in ignored} | {".git"}
    found = [below]
    while found:
        for path in found.pop().iterdir():
            if path.name in folders or path.name.endswith(".egg-info"):
                continue
            if path.is_dir():
                found.append(path)
            else:
                yield path


def modules() -> list[str]:
    """Names of all modules of the packages, without the ``__main__`` ones, which are there to run."""
    roots = [import_module(name) for name in PACKAGES]
    inner = [each.name for root in roots for each in pkgutil.walk_packages(root.__path__, f"{root.__name__}.")]
    return [name for name in [*PACKAGES, *inner] if not name.endswith(".__main__")]
