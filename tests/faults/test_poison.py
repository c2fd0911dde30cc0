"""The campaign's poison: each kind is what its name says, to the workers' own readers."""

from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatch

from faults import bombs
from faults.poison import KINDS, Poison
from orchestra.kafka.packed_records import PackedBatch
from orchestra.store.dead_letters import DeadLetter
from tests.support.records import Record, reader


def fetched(poison: Poison) -> Any:
    """The one record that a consumer makes of it."""
    headers = [(name.encode(), value) for name, value in poison.headers]
    sent = bombs.Record(poison.value, poison.key, headers)
    whole = poison.batch or bombs.batch("gzip" if poison.packed else "none", [sent])
    (found,) = (
        record
        for plain, unread in PackedBatch(whole.raw)
        for record in (*DefaultRecordBatch(plain), *([unread] if unread else []))
    )
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_becomes_a_dead_letter_for_its_reason(kind: str) -> None:
    """A poison record is never run, and its letter has the reason that the campaign expects."""
    poison = KINDS[kind]()
    record = fetched(poison)
    verdict = reader().read(Record(record.value, record.key, list(record.headers)))

    assert isinstance(verdict, DeadLetter)
    assert poison.reason == verdict.reason


def test_there_are_eighteen_kinds() -> None:
    """There are as many kinds as the test plan names, with a bomb of each codec among them."""
    assert 18 == len(KINDS)
