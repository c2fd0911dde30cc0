"""``make audit``: the licences of everything that is installed, and its known vulnerabilities."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from release.tools import LOCKS, installed, run, tool


def problems(python: Path) -> Iterator[str]:
    """What is wrong with the packages of this Python, and with those of the locks."""
    try:
        # The names that are allowed, and why, are in pyproject.toml.
        run(tool("pip-licenses"), "--python", python, "--summary", "--order", "count")
    except subprocess.CalledProcessError:
        yield "a licence is not one of those that pyproject.toml allows"
    try:
        # Strict: a package that the database does not have is an error, not "no known vulnerability".
        run(
            tool("pip-audit"), "--strict", "--progress-spinner", "off", "--require-hashes", "--disable-pip",
            "--requirement", LOCKS["runtime"],
        )  # fmt: skip
    except subprocess.CalledProcessError:
        yield "known vulnerabilities were found, or could not be looked up"


def main() -> None:
    """Exit code 1 if a licence is unknown, or if a package has a known vulnerability or could not be looked up."""
    found = list(problems(installed("runtime", LOCKS["runtime"])))
    for each in found:
        print(each, file=sys.stderr)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
