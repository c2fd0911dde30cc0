"""The twelve invariants: each yields one line per violation."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any
from uuid import UUID

from faults.evidence import Call, Message, Record, ReplyRecord, Request
from faults.index import Index, Ref, grouped
from faults.question import IMPOSTOR, NOT_EXECUTED, Question, Said, arguments, history_hash, read, telling
from schemas.errors import ErrorCode
from schemas.status import ENDINGS, Status

# The other end notices a closed call only after a moment.
NOTICED_SECONDS = 2.0
CANCEL_SECONDS = 60.0
# Errors that no caller may receive about an id or an answer that it has.
_BROKEN = (
    ErrorCode.INTERNAL, ErrorCode.NOT_FOUND, "previous_response_not_ready", "previous_response_not_found",
    "conversation_not_found",
)  # fmt: skip
_OUR_OWN_FAULTS = (ErrorCode.INTERNAL, ErrorCode.REFUSED_BY_DATABASE)


def ended(index: Index) -> Iterator[str]:
    """I1: each acknowledged request has ended or is a dead letter, and no acknowledged cancel is lost."""
    for key, entries in index.entries.items():
        for id in {entry.id for entry in entries if entry.what in ("acked", "answered") and entry.id}:
            if not index.terminal(id):
                row = index.row.get(id)
                yield f"{id} (key {key}) was acknowledged and {f'is still {row.status}' if row else 'is gone'}"
    for entry in index.evidence.entries:
        row = index.row.get(entry.id) if entry.id else None
        lost = row and row.status != Status.CANCELLED and not row.cancel_requested
        late = row and (row.finished_at is None or row.finished_at > entry.at + CANCEL_SECONDS)
        if entry.what == "cancel_acked" and entry.status not in ENDINGS and lost and late:
            yield f"the cancel of {entry.id} was acknowledged and lost"


def one_reply(index: Index) -> Iterator[str]:
    """I2: a request has an answer if it completed, and its one reply is the same in outbox, topic and call."""
    for row in index.evidence.requests:
        said = index.answers.get(row.id, [])
        if len(said) > 1:
            yield f"{row.id} has {len(said)} answers"
        if bool(said) != (row.status == Status.COMPLETED) and not row.deleted:
            yield f"{row.id} is {row.status} and has {len(said)} answers"
        if row.status in ENDINGS:
            yield from _published(index, row, said)
    for id in index.replies.keys() - index.row.keys():
        if not all(_is_refusal(index, record) for record in index.replies[id]):
            yield f"a reply to {id} was published, which has no row"
    for place, records in index.refusals.items():
        if len({(record.event_id, record.value) for record in records}) > 1:
            yield f"{_at(place)}: the refusal was published in {len(records)} forms"
    for letter in index.evidence.dead_letters:
        if index.names_an_id(letter) and letter.request_id not in index.row and letter.place not in index.refusals:
            yield f"{_at(letter.place)} was refused under {letter.request_id}, and there is no reply"
    for entry in index.evidence.entries:
        told = index.row.get(entry.id) if entry.id and entry.what == "answered" else None
        if told and (
            told.status != entry.status or (entry.reply is not None and [entry.reply] != index.answers.get(told.id))
        ):
            yield f"{told.id}: the caller received {entry.status} and another reply than is stored ({told.status})"


def _is_refusal(index: Index, record: ReplyRecord) -> bool:
    """True for the reply to a refused record, whatever was taken in under its id before or after."""
    code = record.refused and json.loads(record.value)["error"]["code"]
    letters = index.dead_by_place.get(record.refused, []) if record.refused else []
    return any((letter.request_id, letter.reason) == (record.request_id, code) for letter in letters)


def _published(index: Index, row: Request, said: list[str]) -> Iterator[str]:
    kept, sent = index.outbox.get(row.id, []), index.replies.get(row.id, [])
    if len(kept) != 1:
        yield f"{row.id} ended and has {len(kept)} rows in the outbox"
    if all(record.refused for record in sent):
        yield f"the reply to {row.id} was never published"
    for record in sent:
        committed = any(record.value == each.value and record.event_id == str(each.event_id) for each in kept)
        if not committed and not _is_refusal(index, record):
            yield f"a reply to {row.id} was published that is not the one that was committed"
    for each in kept:
        value: dict[str, Any] = json.loads(each.value)
        told = telling(value["reply"], value.get("output"))
        if value["status"] != row.status or (said and not row.deleted and told != said[0]):
            yield f"the reply of {row.id} in the outbox is not what is stored"


def chain(index: Index) -> Iterator[str]:
    """I3: each stored answer is the hash of exactly the history before it, and turns are in the promised order."""
    for ref, messages in index.histories.items():
        yield from _recomputed(index, ref, messages)
    for rows in index.conversations.values():
        yield from _promised_order(index, rows)


def _recomputed(index: Index, ref: Ref, messages: list[Message]) -> Iterator[str]:
    history = _gone_before(index, messages[0])
    last = 0
    for asked, said in zip(messages[::2], messages[1::2], strict=False):
        row = index.row.get(asked.request_id) if asked.request_id else None
        history.append(asked.said)
        if (
            row is None
            or asked.role not in ("user", "tool")
            or (said.role, said.request_id) != ("assistant", asked.request_id)
        ):
            yield f"conversation {ref[1]}: message {asked.id} and {said.id} are no question and its answer"
        elif row.seq <= last:
            yield f"conversation {ref[1]}: turn {row.seq} was answered after turn {last}"
        elif not _answers(said, _sent(row, history)):
            yield f"conversation {ref[1]}: the answer of turn {row.seq} is not to the history before it"
        last = max(last, row.seq if row else 0)
        history.append(said.said)
    if len(messages) % 2:
        yield f"conversation {ref[1]}: message {messages[-1].id} stands alone"


def _gone_before(index: Index, message: Message) -> list[Said]:
    """What the responses said that the first question of a conversation goes on from."""
    rows = index.before(message.request_id) if message.request_id else []
    return [each.said for row in rows for each in index.histories.get((row.tenant, row.conversation_id), [])]


def _answers(answer: Message, sent: list[Said]) -> bool:
    expected = history_hash(sent)
    return answer.telling == (arguments(expected) if answer.output else expected)


def _sent(row: Request, history: list[Said]) -> list[Said]:
    """What the model must have received: leading system messages, history, the question with what precedes it."""
    own = list(row.messages) or history[-1:]
    lead = next((at for at, (role, *_) in enumerate(own) if role != "system"), len(own))
    return _executed([*own[:lead], *history[:-1], *own[lead:]])


def _executed(messages: list[Said]) -> list[Said]:
    """The messages with a result for each call that has none."""
    whole: list[Said] = []
    for message, following in zip(messages, [*messages[1:], ("",)], strict=True):
        whole.append(message)
        if message[0] == "assistant" and len(message) > 2 and following[0] != "tool":
            whole += [("tool", NOT_EXECUTED, id) for id, _, _ in message[2]]
    return whole


def _promised_order(index: Index, rows: list[Request]) -> Iterator[str]:
    """A request acknowledged before another was sent has the smaller number."""
    times: list[tuple[float, int, int]] = []
    for row in rows:
        question = index.questions.get(row.id)
        steps = [e for e in index.entries.get(question.key, []) if e.part == "original"] if question else []
        sent = [entry.at for entry in steps if entry.what == "sent"]
        acked = [entry.at for entry in steps if entry.what == "acked"]
        times += [(min(sent), 1, row.seq)] if sent else []
        times += [(min(acked), 0, row.seq)] if acked else []
    newest = 0
    for _, sending, seq in sorted(times):
        if not sending:
            newest = max(newest, seq)
        elif seq < newest:
            yield f"conversation {rows[0].conversation_id}: turn {seq} was sent after turn {newest} was acknowledged"


def one_at_a_time(index: Index) -> Iterator[str]:
    """I4: calls of one conversation do not overlap, and each attempt is started once."""
    calls: dict[Ref, list[Call]] = defaultdict(list)
    for key, found in index.calls.items():
        for row in index.by_key.get(key, [])[:1]:
            calls[row.tenant, row.conversation_id] += found
    for (_, conversation), found in calls.items():
        for first, second in pairwise(sorted(found, key=lambda call: call.start)):
            closing = NOTICED_SECONDS if first.ended in ("client_left", "hang") else 0.0
            # A frozen worker may start a call, or still have one open, before it learns that its turn is gone.
            excused = (
                any(_lost(index, call.key) for call in (first, second))
                or _was_cancelled(index, first, since=second.start, until=first.end)
                or _was_cancelled(index, second, since=second.start, until=second.start)
            )
            if first.end > second.start + closing and not excused:
                yield f"conversation {conversation}: turn {second.ordinal} was begun while turn {first.ordinal} ran"
    begun = [event for event in index.evidence.events if event.kind == "started"]
    for (id, attempt), events in grouped(begun, lambda event: (event.request_id, event.attempt)).items():
        if (times := len({event.event_id for event in events})) > 1:
            yield f"attempt {attempt} of {id} was begun {times} times"


def _lost(index: Index, key: str) -> bool:
    return index.evidence.worker_faults != 0 and any(row.losses for row in index.by_key.get(key, []))


def _was_cancelled(index: Index, call: Call, *, since: float, until: float) -> bool:
    """True for a call whose turn was already cancelled, and whose call was not there or not closed yet."""
    return any(
        row.status == Status.CANCELLED
        and row.finished_at is not None
        and row.finished_at < since <= until < row.finished_at + NOTICED_SECONDS
        for row in index.by_key.get(call.key, [])
    )


def every_record_once(index: Index) -> Iterator[str]:
    """I5: each record of the ingress topics is accounted for in one place, and has at most one dead letter."""
    for record in index.evidence.records:
        if problem := _unaccounted(index, record):
            yield f"{_at(record.place)}: {problem}"
    published = {letter.place for letter in index.evidence.published_dead_letters}
    for place, letters in index.dead_by_place.items():
        if len(letters) > 1:
            yield f"{_at(place)}: {len(letters)} dead letters"
        if place not in published:
            yield f"{_at(place)}: the dead letter was never published"
    for place, rows in index.by_place.items():
        if len(rows) > 1:
            yield f"{_at(place)}: {len(rows)} rows"
        known = place in index.record or place[2] < index.evidence.log_starts.get(place[:2], 0)
        if not known:
            yield f"{_at(place)}: a row came from a record that is not there"
    for tp, end in index.evidence.log_ends.items():
        start = index.evidence.log_starts.get(tp, 0)
        if max(index.evidence.committed.get(tp, 0), start) < end:
            yield f"{tp[0]}/{tp[1]}: committed up to {index.evidence.committed.get(tp)}, the log ends at {end}"


def _unaccounted(index: Index, record: Record) -> str | None:
    dead, taken = record.place in index.dead_by_place, record.place in index.by_place
    if dead and taken:
        return "is a request and a dead letter"
    if dead or taken or record.kind == "delete":
        return None
    row = index.row.get(record.subject) if record.subject else None
    match record.kind:
        case "cancel":
            return None if row or record.subject in index.evidence.early_cancels else "a cancel vanished"
        case "message" if row and row.body_hash == record.body_hash:
            return None  # A duplicate.
    return "is neither a request nor a dead letter nor a duplicate"


def one_key_one_request(index: Index) -> Iterator[str]:
    """I6: each key leads to at most one request, and another body under the same key is never run."""
    for id, rows in index.rows.items():
        if len(rows) > 1:
            yield f"{id} has {len(rows)} rows"
    for key, found in index.by_key.items():
        if len({row.id for row in found}) > 1:
            yield f"key {key} has {len({row.id for row in found})} requests"
    for key, entries in index.entries.items():
        if len({entry.id for entry in entries if entry.what == "acked"}) > 1:
            yield f"key {key} was acknowledged under more than one id"
        for entry in entries:
            repeated = entry.what == "refused" and entry.code == ErrorCode.OUTCOME_UNKNOWN
            if repeated and any(row.status != Status.CANCELLED for row in index.by_key.get(key, [])):
                yield f"key {key}: its caller was to repeat it, and it was run"
            if entry.part == "impostor" and entry.what == "answered" and entry.status == Status.COMPLETED:
                yield f"key {key}: another body was answered"
            if entry.part != "impostor" and entry.code == ErrorCode.IDEMPOTENCY_KEY_REUSED:
                yield f"key {key}: its own body was refused as another's"
    for id, question in index.questions.items():
        if question.note == IMPOSTOR:
            yield f"{id}: another body under a taken key became a request"
    for call in index.evidence.calls:
        if call.note == IMPOSTOR:
            yield f"key {call.key}: another body was run"


def streams_tell_the_truth(index: Index) -> Iterator[str]:
    """I7: the deltas of each stream add up to the stored text, without gaps and repeats."""
    for entry in index.evidence.entries:
        stored = index.answers.get(entry.id, []) if entry.id else []
        if entry.what == "stream" and entry.status == "over" and stored and entry.reply != stored[0]:
            yield f"{entry.id}: the deltas of a stream make another text than is stored"
        if entry.what == "stream" and entry.status == "gap":
            yield f"{entry.id}: a stream had event {entry.code}"
    for event in index.evidence.events:
        row, stored = index.row.get(event.request_id), index.answers.get(event.request_id, [])
        if event.kind != "delta" or not row or not stored or event.attempt != row.fence:
            continue
        if stored[0][event.at : event.at + len(event.text)] != event.text:
            yield f"{event.request_id}: a delta at {event.at} is not in the text that is stored"


def no_waste(index: Index) -> Iterator[str]:
    """I8: each further call of a question has a reason: an earlier call that failed, or a lost worker."""
    for key, calls in index.calls.items():
        asked_for = sum(call.ended not in ("whole", "client_left") or _broken_off(index, call) for call in calls)
        losses = sum(row.losses for row in index.by_key.get(key, []))
        if len(calls) - 1 > asked_for + losses:
            yield f"key {key}: {len(calls)} calls, {asked_for} to be tried again, {losses} lost workers"
    if index.evidence.worker_faults == 0:
        for row in index.evidence.requests:
            if row.losses:
                yield f"{row.id} was taken from a worker {row.losses} times, and none was lost"


def _broken_off(index: Index, call: Call) -> bool:
    """True for a call that was open while a fault broke calls off."""
    return any(call.start <= to and since <= call.end for since, to in index.evidence.broken_off)


def walls(index: Index) -> Iterator[str]:
    """I9: each prompt has only questions of its own conversation and tenant, and those that its caller sent along."""
    for key, calls in index.calls.items():
        own = {(row.tenant, row.conversation_id) for row in index.by_key.get(key, [])}
        told = _told_by_their_caller(index, key)
        for call in calls:
            for seen in call.seen:
                theirs = {(row.tenant, row.conversation_id) for row in index.by_key.get(seen, [])}
                if own and theirs and not theirs & own and seen not in told:
                    yield f"key {key}: its prompt had key {seen} of another conversation or tenant"
    for message in index.evidence.messages:
        question = read(message.content) if message.role in ("user", "tool") else None
        if question and message.conversation_id != _home(index, message, question):
            yield f"message {message.id} lies in a conversation that is not its own"


def _told_by_their_caller(index: Index, key: str) -> set[str]:
    """The keys of questions that the caller sent along, or of those that it named to go on from."""
    found: set[str] = set()
    for row in index.by_key.get(key, []):
        sent = [question for _, text, *_ in row.messages if (question := read(text))]
        named = [question for each in index.before(row.id) if (question := index.questions.get(each.id))]
        found |= {question.key for question in (*sent, *named)}
    return found


def _home(index: Index, message: Message, question: Question) -> UUID | None:
    """The conversation in which a question must lie."""
    entry = index.entry(message.request_id) if message.request_id else None
    return message.request_id if entry and entry.own else question.conversation


def none_broken_inside(index: Index) -> Iterator[str]:
    """I10: no request and no caller receives an internal error, and no session hangs in a transaction."""
    for row in index.evidence.requests:
        if row.error_code in _OUR_OWN_FAULTS:
            yield f"{row.id} failed with {row.error_code}"
    for letter in index.evidence.dead_letters:
        if letter.reason in _OUR_OWN_FAULTS:
            yield f"{_at(letter.place)} is dead with {letter.reason}"
    for entry in index.evidence.entries:
        if entry.code in _BROKEN and entry.what != "answered":
            yield f"key {entry.key}: a caller received {entry.code}"
    if index.evidence.idle_in_transaction:
        yield f"{index.evidence.idle_in_transaction} sessions hang in a transaction"


def replies_in_order(index: Index) -> Iterator[str]:
    """I11: within a conversation, replies are first published in the order of their endings."""
    places: dict[UUID, tuple[str, int, int]] = {
        id: next((each.place for each in records if not each.refused), records[0].place)
        for id, records in index.replies.items()
    }
    for conversation, rows in grouped(index.evidence.outbox, lambda row: (row.tenant, row.conversation_id)).items():
        first = [places[row.request_id] for row in sorted(rows, key=lambda row: row.id) if row.request_id in places]
        for earlier, later in pairwise(first):
            if earlier > later:
                yield f"conversation {conversation[1]}: the reply at {_at(later)} came before an earlier one's"


def nothing_stuck(index: Index) -> Iterator[str]:
    """I12: at the end each request has ended, each reply is marked as published, and no expired lease is left."""
    for row in index.evidence.requests:
        if row.status not in ENDINGS:
            yield f"{row.id} is {row.status}"
    for kept in index.evidence.outbox:
        if not kept.published:
            yield f"the reply to {kept.request_id} is not marked as published"
    if index.evidence.stale_workers:
        yield f"{index.evidence.stale_workers} leases ran out and still stand"


def _at(place: tuple[str, int, int]) -> str:
    return f"{place[0]}/{place[1]}@{place[2]}"


INVARIANTS: Mapping[str, tuple[str, Callable[[Index], Iterator[str]]]] = MappingProxyType(
    {
        "I1": ("what was acknowledged has ended", ended),
        "I2": ("one reply per request, published as committed", one_reply),
        "I3": ("every answer is based on exactly the history before it", chain),
        "I4": ("one turn at a time per conversation, one worker per attempt", one_at_a_time),
        "I5": ("every record is in one place, and none is skipped", every_record_once),
        "I6": ("one request per key, and never another body", one_key_one_request),
        "I7": ("streams add up to the stored text", streams_tell_the_truth),
        "I8": ("no call without a request for it", no_waste),
        "I9": ("nothing crosses a conversation or a tenant", walls),
        "I10": ("no request lost, no connection poisoned, nothing broken inside", none_broken_inside),
        "I11": ("replies are first published in the order of their endings", replies_in_order),
        "I12": ("nothing is stuck at the end", nothing_stuck),
    }
)
