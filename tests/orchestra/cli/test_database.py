"""What verbs do directly in the database, and what they say if it cannot be done."""

import os
from pathlib import Path

import pytest
import typer

from orchestra.cli.database import on_database
from orchestra.cli.rewind import rewind
from orchestra.store.database import DatabaseUnavailableError, DatabaseUnsuitableError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DatabaseUnavailableError("canary"), "DATABASE_URL: Postgres cannot be reached\n"),
        (DatabaseUnsuitableError("it lacks tables"), "DATABASE_URL: it lacks tables\n"),
    ],
    ids=["away", "unsuitable"],
)
def test_a_database_without_tables_is_told_from_one_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    error: Exception, said: str,
) -> None:  # fmt: skip
    """`orchestra rewind` says what a database lacks, and that it cannot be reached only if that is so."""

    async def broken(*_: object) -> None:
        raise error

    monkeypatch.setenv("DATABASE_URL", "postgres://127.0.0.1:9/x")
    monkeypatch.setenv("ORCHESTRA_SECRET", "s" * 32)
    monkeypatch.setattr("orchestra.kafka.rewind.rewind", broken)
    with pytest.raises(typer.Exit):
        rewind(data=tmp_path)

    assert said == capsys.readouterr().err


def test_a_fault_of_ours_is_not_postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of our own code is not told as something that Postgres refuses."""

    async def broken(_database: object) -> None:
        raise ValueError("ours")

    monkeypatch.setenv("DATABASE_URL", "postgres://127.0.0.1:9/x")
    with pytest.raises(ValueError, match="ours"):
        on_database(tmp_path, "a test", broken)


def test_the_stack_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where DATABASE_URL is not set, the database of the stack that runs on the folder is taken."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    asked: list[Path] = []

    def environment(data: Path) -> dict[str, str]:
        asked.append(data)
        return {"DATABASE_URL": "postgres://the.stack/x"}

    async def where(_database: object) -> str:
        return os.environ["DATABASE_URL"]

    monkeypatch.setattr("orchestra.cli.database.environment_of_stack", environment)
    try:
        assert on_database(tmp_path, "a test", where) == "postgres://the.stack/x"
    finally:
        os.environ.pop("DATABASE_URL", None)
    assert asked == [tmp_path]
