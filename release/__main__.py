"""``make release``: make all that a release consists of, check it, and show how it is published."""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from release import audit, ready
from release.tools import DIST, LOCKS, ROOT, UV, installed, run, tool


def main() -> None:
    """Leave the release in ``dist/``. Exit code 1, and nothing is published, if there is a problem."""
    parser = argparse.ArgumentParser(prog="make release", description=main.__doc__)
    parser.add_argument("--publish", action="store_true", help="upload it, if there is no problem")
    publish = parser.parse_args().publish
    number = ready.version(ROOT)
    try:
        found = [*ready.problems(ROOT, number, publish=publish), *_made(number)]
    except subprocess.CalledProcessError as error:
        sys.exit(f"{Path(error.cmd[0]).name} failed with exit code {error.returncode}")
    for each in found:
        print(f"problem: {each}", file=sys.stderr)
    _show(number, publish=publish and not found)
    sys.exit(bool(found))


def _made(number: str) -> Iterator[str]:
    """Make the wheel, the bills of materials and the checksums; what is wrong with them."""
    shutil.rmtree(DIST, ignore_errors=True)
    run("make", "--no-print-directory", "build", "ARGS=--quiet")
    (wheel,) = DIST.glob("*.whl")
    run(tool("twine"), "check", "--strict", wheel)
    environments = {name: installed(name, lock) for name, lock in LOCKS.items()}
    for name, python in environments.items():
        _bill(python, DIST / f"llm-orchestra-pipeline-{number}.{name}.cdx.json")
    yield from audit.problems(environments["runtime"])
    for python in environments.values():
        run(UV, "pip", "install", "--quiet", "--python", python, "--no-deps", wheel)
        shown = subprocess.check_output([python.parent / "orchestra", "--version"], text=True).strip()
        if shown != f"orchestra {number}":
            yield f"`orchestra --version` of the wheel prints {shown!r}"
    _checksums()


def _bill(python: Path, path: Path) -> None:
    """A CycloneDX document of the packages that a lock installs; it is validated before it is written."""
    run(
        tool("cyclonedx-py"), "environment", "--pyproject", "pyproject.toml", "--output-reproducible", "--validate",
        "--output-file", path, python,
    )  # fmt: skip


def _checksums() -> None:
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(DIST.glob("llm*"))]
    (DIST / "SHA256SUMS").write_text("".join(lines), "utf-8")


def _show(number: str, *, publish: bool) -> None:
    """Print what a release consists of and the command that uploads it; run the command if it is to be published."""
    for path in sorted(DIST.glob("[!.]*")):
        print(f"dist/{path.name}: {path.stat().st_size:,} bytes")
    upload = ["upload", "--non-interactive", *(f"dist/{path.name}" for path in DIST.glob("*.whl"))]
    index = os.environ.get("TWINE_REPOSITORY_URL", "the package index of TWINE_REPOSITORY_URL")
    print(f"to {index}: twine {' '.join(upload)}")
    images = os.environ.get("IMAGES", "the registry of IMAGES")
    print(f"to {images}, where there is Docker: make push-images VERSION={number}")
    if publish:
        run(tool("twine"), *upload)
    else:
        print("nothing was published")


if __name__ == "__main__":
    main()
