"""What the command behind `make doors` reports, with tours that take no time."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doors import __main__ as doors
from tests.support.environments import MissingError

_LINE = 'print(\'{{"call": "{call}", "difference": {difference}}}\', flush=True)\n'
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs tours, each of which is a program; returns the exit code and the output."""
    for name in ("DOOR_URL", "DOOR_URL_2", "GATEWAY_URL", "DOOR_KEY", "DOOR_OTHER_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setattr(doors, "CACHE", tmp_path)

    def run(*arguments: str, **programs: str | MissingError) -> tuple[int, str]:
        def command(name: str) -> list[Path]:
            program = programs[name]
            if isinstance(program, MissingError):
                raise program
            (tmp_path / f"{name}.py").write_text(program)
            return [Path(sys.executable), tmp_path / f"{name}.py"]

        monkeypatch.setattr(doors, "_TOURS", {name: lambda name=name: command(name) for name in programs})
        monkeypatch.setattr(sys, "argv", ["doors", *arguments])
        with pytest.raises(SystemExit) as ended:
            doors.main()
        return int(ended.value.code or 0), capsys.readouterr().out

    return run


def test_a_difference_fails_the_run_and_is_named(run: Run) -> None:
    """Each call is reported as it is made, and a difference is repeated at the end with its call."""
    good, bad = _LINE.format(call="models", difference="null"), _LINE.format(call="files", difference='"1 is not 2"')
    code, output = run(one=good + "print('noise of a library')\n" + bad, two=good)

    assert code == 1
    assert "one: models: ok" in output
    assert "noise" not in output
    assert output.endswith("\none: files\n    1 is not 2\n")


def test_a_tour_that_breaks_off_fails_the_run(run: Run) -> None:
    """A tour that ends with an error, or without any check, has failed, whatever it printed before."""
    good = _LINE.format(call="models", difference="null")

    assert run(one=good)[0] == 0
    assert run(one=f"{good}raise SystemExit(3)\n")[0] == 1
    assert run(one="")[0] == 1


def test_a_tour_that_cannot_run_says_why(run: Run) -> None:
    """What cannot be installed or fetched is named in the table; it fails the run only if it was asked for by name."""
    programs = {"one": _LINE.format(call="models", difference="null"), "two": MissingError("no way there")}
    code, output = run(**programs)

    assert code == 0
    assert "not run: no way there" in output
    assert run("--only", "two", **programs)[0] == 1
