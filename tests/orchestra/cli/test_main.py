"""The command line as a whole."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from orchestra.cli.main import build
from orchestra.version import version

VERBS = set(
    "up down status logs scale send bulk chat password gateway worker llm migrate topics models doctor keys "
    "conversations dead-letters files requests queue workers lag stats audit top erase erasures rewind".split()
)


def test_every_verb_is_there_and_explains_itself() -> None:
    """Each documented verb has a help text, and so has each of its options."""
    commands = get_command(build()).commands  # type: ignore[attr-defined]

    assert set(commands) == VERBS
    for name, command in commands.items():
        assert command.help, name
        assert all(getattr(option, "help", None) for option in command.params), name


def test_a_bad_choice_is_a_usage_error() -> None:
    """What does not exist, or cannot be, is refused with exit code 2 before anything is done."""
    bad = (["fly"], ["up", "--workers", "-1"], ["up", "--port-base", "80"], ["scale", "gateways", "2"])

    assert [CliRunner().invoke(build(), words).exit_code for words in bad] == [2] * len(bad)


def test_the_version_is_told() -> None:
    """`orchestra --version` prints the version of the package."""
    shown = CliRunner().invoke(build(), ["--version"])

    assert (shown.exit_code, shown.stdout) == (0, f"orchestra {version()}\n")


def test_a_verb_that_is_misspelt_is_recognised() -> None:
    """An unknown verb is reported with the nearest one."""
    shown = CliRunner().invoke(build(), ["skale"])

    assert (shown.exit_code, "Did you mean 'scale'?" in shown.stderr) == (2, True)


@pytest.mark.parametrize("what", ["worker", "workers"])
def test_workers_are_scaled_by_either_name(tmp_path: Path, what: str) -> None:
    """Both `worker` and `workers` are accepted; if no stack runs, that is the error."""
    shown = CliRunner().invoke(build(), ["scale", what, "3", "--data", str(tmp_path)])

    assert (shown.exit_code, "no stack is running" in shown.stderr) == (1, True)


@pytest.mark.parametrize(
    "library", ["aiokafka", "fastapi", "httpx", "jgo", "psutil", "sqlalchemy", "textual", "xllamacpp"]
)
def test_it_loads_nothing_that_a_services_image_may_lack(library: str) -> None:
    """The command starts without the libraries of verbs and services that are not used."""
    script = f"import sys; sys.modules[{library!r}] = None; import orchestra.cli.main"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
