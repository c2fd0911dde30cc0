"""What the ledger promises: what was written is on disk, complete, and read back unchanged."""

import asyncio
from pathlib import Path
from uuid import uuid4

from faults.ledger import Entry, open_ledger, read_ledger


async def test_entries_come_back_as_they_were(tmp_path: Path) -> None:
    """Entries written together or in turn are each read back whole, and none is missing once write has returned."""
    path = tmp_path / "ledger.jsonl"
    entries = [
        Entry(
            "acked", f"key{n}", uuid4(), n, uuid4(), "response", "duplicate", status="pending", own=True, after=uuid4()
        )
        for n in range(50)
    ]
    async with open_ledger(path) as ledger:
        await asyncio.gather(*(ledger.write(entry) for entry in entries[:40]))
        assert 40 == len(read_ledger(path))
        for entry in entries[40:]:
            await ledger.write(entry)

    assert sorted(entries, key=lambda e: e.ordinal) == sorted(read_ledger(path), key=lambda e: e.ordinal)


async def test_a_line_that_was_cut_off_never_counted(tmp_path: Path) -> None:
    """The last line of a client that died while writing it is left out."""
    path = tmp_path / "ledger.jsonl"
    async with open_ledger(path) as ledger:
        await ledger.write(Entry("sent", "key", uuid4(), 0))
    with path.open("a") as file:
        file.write('{"what": "acked", "ke')

    assert ["sent"] == [entry.what for entry in read_ledger(path)]
