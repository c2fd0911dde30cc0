"""Evidence of runs that never were: everything as it must be, for tests to spoil."""

import json
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

from faults.evidence import Call, Event, Evidence, Message, OutboxRow, Record, ReplyRecord, Request
from faults.ledger import Entry
from faults.question import Question, history_hash

TOPIC = "llm.requests"


def clean_history(conversations: int = 2, turns: int = 3) -> Evidence:
    """This many conversations of this many turns each, all completed, streamed and published, on one partition each."""
    evidence = Evidence(worker_faults=0)
    for partition in range(conversations):
        _converse(evidence, uuid4(), partition, turns)
        evidence.log_ends[TOPIC, partition] = evidence.committed[TOPIC, partition] = turns
    return evidence


def _converse(evidence: Evidence, conversation: UUID, partition: int, turns: int) -> None:
    said: list[tuple[str, str]] = []
    seen: list[str] = []
    for ordinal in range(turns):
        question = Question(conversation, ordinal, uuid4().hex)
        said.append(("user", question.text()))
        seen.append(question.key)
        _turn(evidence, question, said, seen, (TOPIC, partition, ordinal))
        said.append(("assistant", history_hash(said)))


def _turn(
    evidence: Evidence,
    question: Question,
    said: list[tuple[str, str]],
    seen: Sequence[str],
    place: tuple[str, int, int],
) -> None:
    id, event_id, conversation, at = uuid4(), uuid4(), question.conversation, 100.0 + 10 * question.ordinal
    reply, number = history_hash(said), len(evidence.requests)
    evidence.records.append(Record(place, "message", id, "hash", at))
    evidence.requests.append(
        Request(
            "default", id, conversation, question.ordinal + 1, "completed", "hash", place, (said[-1],), finished_at=at
        )
    )
    for more, (role, content) in enumerate((said[-1], ("assistant", reply))):
        evidence.messages.append(Message(2 * number + more, "default", conversation, id, role, content))
    value = json.dumps({"status": "completed", "reply": reply})
    evidence.outbox.append(OutboxRow(number, "default", id, conversation, event_id, value))
    evidence.replies.append(ReplyRecord(("llm.replies", place[1], place[2]), id, conversation, str(event_id), value))
    told = [Event(("llm.events", 0, number * 4), id, "started", 1)]
    told += [Event(("llm.events", 0, number * 4 + 1), id, "delta", 1, reply[:32], 0)]
    told += [Event(("llm.events", 0, number * 4 + 2), id, "delta", 1, reply[32:], 32)]
    evidence.events += [*told, Event(("llm.events", 0, number * 4 + 3), id, "completed", 1)]
    evidence.calls.append(
        Call(at + 2, at + 3, "whole", conversation, question.ordinal, question.key, reply, seen=tuple(seen))
    )
    step = Entry("sent", question.key, conversation, question.ordinal, way="stream", at=at)
    evidence.entries += [
        step,
        replace(step, what="acked", id=id, at=at + 1),
        replace(step, what="stream", id=id, status="over", reply=reply, at=at + 4),
        replace(step, what="answered", id=id, status="completed", reply=reply, at=at + 5),
    ]
