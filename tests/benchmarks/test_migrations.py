"""What the benchmark of the migrations promises: both sides of each file are run, and the strongest lock is shown."""

import re

from benchmarks.migrations import RELEASED, Change, known, sides, strongest
from tests.support.tree import ROOT


def test_each_migration_has_two_sides() -> None:
    """Every file is read, in order, with the statements that apply it and those that undo it."""
    found = known()

    assert [each.name for each in found] == sorted(each.name for each in found)
    assert found[0].name == "0001_initial"
    assert [each.name for each in found if "migrate:" in each.up + each.down] == []
    assert ("CREATE TABLE a ();\n\n", "DROP TABLE a;\n") == sides(
        "-- migrate:up\nCREATE TABLE a ();\n\n-- migrate:down\nDROP TABLE a;\n"
    )


def test_the_page_on_upgrades_has_each_migration() -> None:
    """Each migration since the last release is in the table of what migrations block."""
    page = (ROOT / "docs/howto/upgrade.md").read_text("utf-8")
    rows = [(first, last or first) for first, last in re.findall(r"^\| (\d{4})(?: to (\d{4}))? \|", page, re.MULTILINE)]
    newer = [each.name[:4] for each in known() if each.name[:4] > RELEASED]

    assert [number for number in newer if not any(first <= number <= last for first, last in rows)] == []


def test_the_strongest_lock_of_a_table_counts() -> None:
    """A table that is locked twice is shown once, with the lock that blocks more."""
    found = strongest([
        {"name": "requests", "mode": "ShareLock"},
        {"name": "requests", "mode": "AccessExclusiveLock"},
        {"name": "messages", "mode": "ShareLock"},
    ])  # fmt: skip

    assert {"requests": "AccessExclusiveLock", "messages": "ShareLock"} == found
    assert ["`messages` Share, `requests` AccessExclusive", "1,500", "20", "3"] == Change(found, 1.5, 0.02, 0.003).row
