"""Bugs planted on purpose, one at a time: each must be caught.

``python -m faults.mutants [NAME …]`` plants each of them (or those named) in a copy of the code, plays the scenario
that must reveal it there, and reports the result; ``sound`` plays every scenario on the unchanged code. Exit code 1 if
a bug was not caught, or if the unchanged code had violations.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from faults.scenarios import SCENARIOS

ROOT = Path(__file__).parents[1]
LIMIT_SECONDS = 300
SOUND = "sound"
_COPIED = ("schemas", "orchestra", "gateway", "workers", "llm_service", "migrations", "faults", "tests")


@dataclass(frozen=True)
class Edit:
    """One replacement in one file; ``old`` occurs there exactly once."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A bug. ``shows``: the scenario or the test that must reveal it; ``breaks``: an invariant that it must break."""

    name: str
    edits: tuple[Edit, ...]
    shows: str
    breaks: str = ""


@dataclass(frozen=True)
class Outcome:
    """The result for a mutant. ``found``: broken invariants, or the output of the test."""

    caught: bool
    found: str


_MOVES = "migrations/0015_one_round_trip.sql"
_INTAKE = "workers/intake.py"
_KAFKA = "orchestra/kafka/clients.py"
_COMMIT = "        await consumer.commit({tp: batch[-1].offset + 1 for tp, batch in polled.items()})\n"
_WRITE = "        await self._write(verdicts)\n        self._at_hand = ()\n"
_FINISH = "            finished = await store.finish(self._database, endings, order)\n"
_FINISH_TOO_SOON = """            async with self._database.transaction() as tx:
                finished = await store.finish(tx, endings, order)
                self._announce(finished.announcements)
"""
_SKEWED = """await tx.run(_EXPIRED_WORKERS.replace("now()", f"to_timestamp({__import__('time').time()})"))"""
_PRIMARY_KEY, _UNIQUE_PLACE = "    PRIMARY KEY (tenant, id),\n", "    UNIQUE (tenant, conversation_id, seq),\n"
_FOREIGN_KEY = ",\n    FOREIGN KEY (tenant, request_id) REFERENCES requests (tenant, id) ON DELETE CASCADE"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "ack_first",
        (Edit(_KAFKA, "group_id=group_id,\n        ack_policy=AckPolicy.MANUAL",
              "group_id=group_id,\n        ack_policy=AckPolicy.ACK_FIRST"),),
        "blocked_intake",
        "I1",
    ),
    Mutant("ack_before_commit", (Edit(_INTAKE, _WRITE, _COMMIT + _WRITE),), "blocked_intake", "I1"),
    Mutant("commit_all", (Edit(_INTAKE, "consumer.commit(new)", "consumer.commit()"),), "blocked_intake", "I1"),
    Mutant("no_fence", (Edit(_MOVES, " AND r.fence = g.fence\n", "\n"),), "zombie", "I2"),
    Mutant(
        "fence_given_back",
        (Edit(_MOVES, "tries = r.tries - g.tries_back,",
              "tries = r.tries - g.tries_back, fence = r.fence - g.tries_back,"),),
        "drain",
        "I10",
    ),
    Mutant(
        "no_unique_id",
        (
            Edit("migrations/0001_initial.sql", _PRIMARY_KEY + _UNIQUE_PLACE, _UNIQUE_PLACE),
            Edit("migrations/0002_tasks_users_keys.sql", _FOREIGN_KEY, ""),
        ),
        "same_id",
        "I6",
    ),
    Mutant(
        "acks_one",
        (Edit(_KAFKA, 'enable_idempotence=True,\n        acks="all"', "enable_idempotence=False,\n        acks=1"),),
        "tests/orchestra/kafka/test_clients.py::test_the_producer_loses_and_doubles_nothing",
    ),
    Mutant(
        "outbox_by_last_id",
        (Edit("orchestra/store/outbox.py", "WHERE id = ANY(:ids)",
              "WHERE id <= (SELECT max(i) FROM unnest(CAST(:ids AS bigint[])) AS i)"),),
        "kafka_away",
        "I2",
    ),
    Mutant(
        "no_head_of_line",
        (Edit(_MOVES, "WHEN d.behind THEN 'waiting'", "WHEN d.behind THEN 'pending'"),),
        "pipelined",
        "I5",
    ),
    Mutant(
        "half_stream_is_success",
        (Edit("workers/generate.py",
              'raise OrchestraError(ErrorCode.BAD_UPSTREAM, "the stream ended without its end mark")',
              "done = Done(Usage())"),),
        "half_streams",
        "I3",
    ),
    Mutant(
        "no_tenant_predicate",
        (Edit("orchestra/store/messages.py", "WHERE tenant = k.tenant AND conversation_id = k.id ORDER BY id DESC",
              "WHERE conversation_id = k.id ORDER BY id DESC"),),
        "two_tenants",
        "I9",
    ),
    Mutant(
        "lease_by_local_clock",
        (Edit("orchestra/store/leases.py", "await tx.run(_EXPIRED_WORKERS)", _SKEWED),),
        "clock_ahead",
        "I8",
    ),
    Mutant("publish_before_commit", (Edit("workers/finish.py", _FINISH, _FINISH_TOO_SOON),), "failing_commits", "I2"),
)  # fmt: skip


def try_out(mutant: Mutant) -> Outcome:
    """Plant a bug in a copy of the code, and see whether it is caught."""
    with _copy(mutant.edits) as folder:
        if mutant.shows in SCENARIOS:
            broken, lines = _perform(folder, mutant.shows)
            return Outcome(mutant.breaks in broken, "; ".join(lines))
        done = _run(folder, "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.shows)
        last = (done.stdout.strip().splitlines() or ["no output"])[-1]
        return Outcome(done.returncode == 1, f"{mutant.shows}: {last}")


def try_sound(scenario: str) -> Outcome:
    """Play a scenario on the unchanged code: nothing may be found."""
    with _copy(()) as folder:
        broken, lines = _perform(folder, scenario)
        return Outcome(not broken, "; ".join(lines) or "nothing found")


def _perform(folder: Path, scenario: str) -> tuple[list[str], list[str]]:
    done = _run(folder, "faults.scenarios", scenario)
    if done.returncode:
        return [], [f"{scenario} could not be played: {(done.stderr.strip().splitlines() or ['?'])[-1]}"]
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return told["broken"], told["lines"]


def _run(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", module, *arguments]
    env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )


@contextmanager
def _copy(edits: Sequence[Edit]) -> Iterator[Path]:
    """A folder with the changed code."""
    with tempfile.TemporaryDirectory(prefix="orchestra-mutant-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        for name in _COPIED:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        for edit in edits:
            path = folder / edit.file
            path.write_text(planted(path.read_text("utf-8"), edit), "utf-8")
        yield folder


def planted(text: str, edit: Edit) -> str:
    """The text with the edit applied. Raises ``ValueError`` unless its old text occurs exactly once."""
    if text.count(edit.old) != 1:
        raise ValueError(f"{edit.file} contains the text to replace {text.count(edit.old)} times")
    return text.replace(edit.old, edit.new)


def main(names: Sequence[str]) -> int:
    """Try these mutants (all if no name is given). Returns the exit code."""
    if unknown := set(names) - {mutant.name for mutant in MUTANTS} - {SOUND}:
        sys.stderr.write(f"unknown: {', '.join(sorted(unknown))}\n")
        return 2
    failures = 0
    for mutant in MUTANTS if not names else [each for each in MUTANTS if each.name in names]:
        failures += _tell(mutant.name, try_out(mutant), "caught", "NOT CAUGHT")
    for scenario in SCENARIOS if SOUND in names else ():
        failures += _tell(scenario, try_sound(scenario), "sound", "WANTING")
    return 1 if failures else 0


def _tell(name: str, outcome: Outcome, good: str, bad: str) -> int:
    sys.stdout.write(f"{name:24} {good if outcome.caught else bad:10} {outcome.found[:300]}\n")
    sys.stdout.flush()
    return int(not outcome.caught)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
