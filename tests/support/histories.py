"""Evidence of runs that never were: everything as it must be, for tests to spoil."""

import json
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

from faults.evidence import Call, Event, Evidence, Message, OutboxRow, Record, ReplyRecord, Request
from faults.ledger import Entry
from faults.question import TOOL, TOOL_NAME, Question, Said, arguments, call_id, history_hash

TOPIC = "llm.requests"


def clean_history(conversations: int = 2, turns: int = 3, *, tools: bool = False) -> Evidence:
    """This many conversations of this many turns each, all completed, streamed and published, on one partition each.

    ``tools``: every other turn is answered with a tool call, and the next one is its result.
    """
    evidence = Evidence(worker_faults=0)
    for partition in range(conversations):
        _converse(evidence, uuid4(), partition, turns, tools=tools)
        evidence.log_ends[TOPIC, partition] = evidence.committed[TOPIC, partition] = turns
    return evidence


def door_history(turns: int, *, by_name: bool) -> Evidence:
    """A dialogue by OpenAI's API, in which each request has a conversation of its own, with the request's id.

    ``by_name``: of responses that name the one before; otherwise of chat completions that have all messages.
    """
    evidence = clean_history(conversations=1, turns=turns)
    own = {row.id: replace(row, conversation_id=row.id, seq=1) for row in evidence.requests}
    ids = list(own)
    for place, (row, earlier) in enumerate(zip(own.values(), [None, *ids], strict=False)):
        said = [message.said for message in evidence.messages[: 2 * place + 1]]
        evidence.requests[place] = row if by_name else replace(row, messages=tuple(said))
        after = earlier if by_name else None
        key = evidence.calls[place].key
        evidence.entries = [
            replace(entry, own=True, after=after) if entry.key == key else entry for entry in evidence.entries
        ]
    evidence.messages = [
        replace(each, conversation_id=each.request_id) for each in evidence.messages if each.request_id
    ]
    evidence.outbox = [replace(each, conversation_id=each.request_id) for each in evidence.outbox]
    evidence.replies = [replace(each, conversation_id=each.request_id) for each in evidence.replies]
    return evidence


def _converse(evidence: Evidence, conversation: UUID, partition: int, turns: int, *, tools: bool) -> None:
    said: list[Said] = []
    seen: list[str] = []
    call: str | None = None
    for ordinal in range(turns):
        question = Question(conversation, ordinal, uuid4().hex, TOOL if tools and not call else "")
        said.append(("tool", question.text(), call) if call else ("user", question.text()))
        call = call_id(question.key) if question.note else None
        seen.append(question.key)
        said.append(_turn(evidence, question, said, seen, (TOPIC, partition, ordinal), call))


def _turn(
    evidence: Evidence,
    question: Question,
    said: list[Said],
    seen: Sequence[str],
    place: tuple[str, int, int],
    call: str | None,
) -> Said:
    id, event_id, conversation, at = uuid4(), uuid4(), question.conversation, 100.0 + 10 * question.ordinal
    number, hashed = len(evidence.requests), history_hash(said)
    reply, output = (arguments(hashed), _output(call, hashed)) if call else (hashed, None)
    evidence.records.append(Record(place, "message", id, "hash", at))
    evidence.requests.append(
        Request(
            "default", id, conversation, question.ordinal + 1, "completed", "hash", place, (said[-1],), finished_at=at
        )
    )
    role, content, *of_call = said[-1]
    of_both = "default", conversation, id
    answer = Message(2 * number + 1, *of_both, "assistant", "" if call else reply, output=output)
    evidence.messages += [Message(2 * number, *of_both, role, content, of_call[0] if of_call else None), answer]
    value = json.dumps({"status": "completed", "reply": answer.content, **({"output": output} if output else {})})
    evidence.outbox.append(OutboxRow(number, "default", id, conversation, event_id, value))
    evidence.replies.append(ReplyRecord(("llm.replies", place[1], place[2]), id, conversation, str(event_id), value))
    told = [Event(("llm.events", 0, number * 4), id, "started", 1)]
    told += [Event(("llm.events", 0, number * 4 + 1), id, "delta", 1, reply[:32], 0)]
    told += [Event(("llm.events", 0, number * 4 + 2), id, "delta", 1, reply[32:], 32)]
    evidence.events += [*told, Event(("llm.events", 0, number * 4 + 3), id, "completed", 1)]
    evidence.calls.append(
        Call(at + 2, at + 3, "whole", conversation, question.ordinal, question.key, hashed, seen=tuple(seen))
    )
    step = Entry("sent", question.key, conversation, question.ordinal, way="stream", at=at)
    evidence.entries += [
        step,
        replace(step, what="acked", id=id, at=at + 1),
        replace(step, what="stream", id=id, status="over", reply=reply, at=at + 4),
        replace(step, what="answered", id=id, status="completed", reply=reply, at=at + 5),
    ]
    return answer.said


def _output(call: str, hashed: str) -> list[dict[str, str]]:
    return [{"type": "function_call", "call_id": call, "name": TOOL_NAME, "arguments": arguments(hashed)}]
