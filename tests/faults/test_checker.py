"""What the checker promises: no finding in a sound history, and each planted bug found by its trace in the data."""

from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest

from faults.checker import EXAMPLES, check
from faults.evidence import DeadLetter, Evidence, Record, ReplyRecord
from faults.invariants import _executed
from faults.ledger import Entry
from faults.question import IMPOSTOR, NOT_EXECUTED, Said, history_hash
from tests.support.histories import TOPIC, clean_history, door_history

Spoil = Callable[[Evidence], None]


def not_taken_in(evidence: Evidence) -> None:
    """The bug of offsets committed too soon: the record is there and was read, the request is missing."""
    lost = evidence.requests.pop()
    for name in ("messages", "outbox", "replies", "events"):
        kept = [each for each in getattr(evidence, name) if each.request_id != lost.id]
        setattr(evidence, name, kept)
    evidence.entries = [each for each in evidence.entries if each.id != lost.id or each.what == "acked"]


def never_written(evidence: Evidence) -> None:
    """The bug of acks=1: Kafka acknowledged a record and does not have it."""
    not_taken_in(evidence)
    record = evidence.records.pop()
    evidence.log_ends[record.place[:2]] = evidence.committed[record.place[:2]] = record.place[2]


def ended_by_a_zombie(evidence: Evidence) -> None:
    """The bug of a missing fence: the row is completed, its answer is missing."""
    lost = evidence.requests[-1]
    evidence.messages = [each for each in evidence.messages if each.request_id != lost.id]


def attempt_begun_twice(evidence: Evidence) -> None:
    """The bug of a drain that gives the fence back."""
    evidence.events.append(replace(evidence.events[0], place=("llm.events", 0, 999), event_id="another"))


def refused_by_postgres(evidence: Evidence) -> None:
    """The bug of a drain that gives the fence back, refused by the trigger."""
    ended_by_a_zombie(evidence)
    evidence.requests[-1] = replace(evidence.requests[-1], status="failed", error_code="refused_by_database")


def two_rows(evidence: Evidence) -> None:
    """The bug of a missing primary key."""
    evidence.requests.append(replace(evidence.requests[0], seq=9, place=(TOPIC, 0, 0)))


def two_requests_a_key(evidence: Evidence) -> None:
    """The bug of an id that is not derived from its key."""
    evidence.requests.append(replace(evidence.requests[0], id=uuid4(), seq=9))


def marked_unpublished(evidence: Evidence) -> None:
    """The bug of an outbox read by last id."""
    evidence.replies.pop()


def two_at_a_time(evidence: Evidence) -> None:
    """The bug of a missing head rule."""
    evidence.calls[1] = replace(evidence.calls[1], start=evidence.calls[0].start + 0.5)


def half_an_answer(evidence: Evidence) -> None:
    """The bug of half a stream that counts as complete."""
    evidence.messages[-1] = replace(evidence.messages[-1], content=evidence.messages[-1].content[:32])


def anothers_history(evidence: Evidence) -> None:
    """The bug of a WHERE without the tenant."""
    evidence.calls[-1] = replace(evidence.calls[-1], seen=(evidence.calls[0].key, *evidence.calls[-1].seen))


def taken_from_the_living(evidence: Evidence) -> None:
    """The bug of leases by a local clock."""
    evidence.requests[0] = replace(evidence.requests[0], losses=1, fence=2)


def published_too_soon(evidence: Evidence) -> None:
    """The bug of a reply that is sent before its commit, which then fails."""
    first = evidence.replies[0]
    evidence.replies.append(replace(first, event_id=str(uuid4()), place=("llm.replies", 0, 99)))


def cancel_forgotten(evidence: Evidence) -> None:
    """An acknowledged cancel without a trace, long before the ending."""
    row = evidence.requests[-1]
    evidence.entries.append(Entry("cancel_acked", "k", row.conversation_id, 0, row.id, status="pending", at=1.0))


def another_reply_told(evidence: Evidence) -> None:
    """A caller that got another reply than the stored one."""
    evidence.entries[-1] = replace(evidence.entries[-1], reply="another")


def answered_out_of_order(evidence: Evidence) -> None:
    """A turn sent after another was acknowledged has the smaller number."""
    first, second = evidence.requests[0], evidence.requests[1]
    evidence.requests[:2] = [replace(first, seq=second.seq), replace(second, seq=first.seq)]


def skipped(evidence: Evidence) -> None:
    """A record without any result."""
    evidence.records.append(Record((TOPIC, 0, 3), "message", uuid4(), "hash"))


def unread(evidence: Evidence) -> None:
    """The log is longer than what was committed."""
    evidence.log_ends[TOPIC, 0] += 1


def buried_in_silence(evidence: Evidence) -> None:
    """A dead letter that is in the table and not on the topic."""
    evidence.records.append(Record((TOPIC, 0, 3), "unreadable"))
    evidence.dead_letters.append(DeadLetter((TOPIC, 0, 3), "not_json"))


def impostor_run(evidence: Evidence) -> None:
    """Another body under a used key, sent to the model."""
    evidence.calls.append(replace(evidence.calls[-1], note=IMPOSTOR, start=900, end=901))


def lying_delta(evidence: Evidence) -> None:
    """A delta of the winning attempt with other text than the stored one."""
    evidence.events[1] = replace(evidence.events[1], text="nonsense")


def stream_with_a_gap(evidence: Evidence) -> None:
    """A stream whose deltas are not the whole text."""
    evidence.entries[2] = replace(evidence.entries[2], reply=str(evidence.entries[2].reply)[8:])


def needless_call(evidence: Evidence) -> None:
    """The model was called twice, although the first answer was complete."""
    evidence.calls.append(replace(evidence.calls[-1], start=900, end=901))


def told_of_an_error_inside(evidence: Evidence) -> None:
    """A caller that got a 500."""
    evidence.entries.append(replace(evidence.entries[0], what="unknown", code="internal"))


def forgotten_id(evidence: Evidence) -> None:
    """A caller that got 404 for an accepted id."""
    evidence.entries.append(replace(evidence.entries[0], what="refused", code="not_found"))


def answer_out_of_reach(evidence: Evidence) -> None:
    """A caller that could not go on from a response that it has."""
    evidence.entries.append(replace(evidence.entries[0], what="refused", code="previous_response_not_found"))


def run_after_all(evidence: Evidence) -> None:
    """A request without a key that its caller was to repeat, and it was answered."""
    evidence.entries.append(replace(evidence.entries[0], what="refused", code="outcome_unknown"))


def event_lost(evidence: Evidence) -> None:
    """A stream whose events have no continuous numbers."""
    evidence.entries.append(replace(evidence.entries[2], status="gap", code="7 after 5"))


def replies_crossed(evidence: Evidence) -> None:
    """Two first replies of a conversation in the wrong order."""
    first, second = evidence.replies[0], evidence.replies[1]
    evidence.replies[:2] = [replace(first, place=second.place), replace(second, place=first.place)]


def still_open(evidence: Evidence) -> None:
    """A request that is never ended."""
    evidence.requests[-1] = replace(evidence.requests[-1], status="pending", finished_at=None)


def refused(evidence: Evidence) -> None:
    """A record that is a dead letter under the id it named; its consumer got a reply."""
    id, place = uuid4(), (TOPIC, 0, evidence.log_ends[TOPIC, 0])
    evidence.records.append(Record(place, "unreadable", at=1.0))
    evidence.dead_letters.append(DeadLetter(place, "not_json", id))
    evidence.published_dead_letters.append(DeadLetter(place, "not_json"))
    evidence.log_ends[TOPIC, 0] = evidence.committed[TOPIC, 0] = place[2] + 1
    value = '{"status": "failed", "error": {"code": "not_json"}}'
    evidence.replies.append(ReplyRecord(("llm.replies", 0, 98), id, uuid4(), str(uuid4()), value, place))


def refused_in_silence(evidence: Evidence) -> None:
    """The bug of a bad record without a reply."""
    refused(evidence)
    evidence.replies.pop()


def refused_twice(evidence: Evidence) -> None:
    """The bug of a refusal reply with a new id each time."""
    refused(evidence)
    evidence.replies.append(replace(evidence.replies[-1], event_id=str(uuid4()), place=("llm.replies", 0, 99)))


def refused_for_nothing(evidence: Evidence) -> None:
    """The bug of a refusal reply for a record that was not refused, or with another reason."""
    refused(evidence)
    evidence.dead_letters[-1] = replace(evidence.dead_letters[-1], reason="bad_header")


def stale_lease(evidence: Evidence) -> None:
    """A worker that is long gone and still in the table."""
    evidence.stale_workers = 1


SPOILT: list[tuple[Spoil, str]] = [
    (not_taken_in, "I1"),
    (not_taken_in, "I5"),
    (never_written, "I1"),
    (ended_by_a_zombie, "I2"),
    (attempt_begun_twice, "I4"),
    (refused_by_postgres, "I10"),
    (two_rows, "I6"),
    (two_requests_a_key, "I6"),
    (marked_unpublished, "I2"),
    (two_at_a_time, "I4"),
    (half_an_answer, "I3"),
    (anothers_history, "I9"),
    (taken_from_the_living, "I8"),
    (published_too_soon, "I2"),
    (refused_in_silence, "I2"),
    (refused_twice, "I2"),
    (refused_for_nothing, "I2"),
    (cancel_forgotten, "I1"),
    (another_reply_told, "I2"),
    (answered_out_of_order, "I3"),
    (skipped, "I5"),
    (unread, "I5"),
    (buried_in_silence, "I5"),
    (impostor_run, "I6"),
    (lying_delta, "I7"),
    (stream_with_a_gap, "I7"),
    (needless_call, "I8"),
    (told_of_an_error_inside, "I10"),
    (forgotten_id, "I10"),
    (answer_out_of_reach, "I10"),
    (event_lost, "I7"),
    (run_after_all, "I6"),
    (replies_crossed, "I11"),
    (still_open, "I12"),
    (stale_lease, "I12"),
]


def test_a_sound_history_has_no_findings() -> None:
    """An empty history has no findings."""
    findings = check(clean_history(conversations=3, turns=4))

    assert [] == findings.lines()
    assert 12 == findings.figures["requests"] == findings.figures["completed"]


@pytest.mark.parametrize(("spoil", "invariant"), SPOILT, ids=lambda each: getattr(each, "__name__", each))
def test_a_planted_bug_is_found_by_its_trace(spoil: Spoil, invariant: str) -> None:
    """Each kind of damage violates the invariant that covers it."""
    evidence = clean_history()
    spoil(evidence)

    assert invariant in check(evidence).broken


def test_a_sound_history_of_tool_calls_has_no_findings() -> None:
    """Calls and their results are checked as questions and answers are."""
    findings = check(clean_history(turns=4, tools=True))

    assert [] == findings.lines()


def test_a_result_of_another_call_is_found() -> None:
    """The answer to a result shows which call it was the result of."""
    evidence = clean_history(turns=4, tools=True)
    place = next(at for at, message in enumerate(evidence.messages) if message.role == "tool")
    evidence.messages[place] = replace(evidence.messages[place], tool_call_id="call_of_another")

    assert "I3" in check(evidence).broken


def test_a_call_without_a_result_has_a_result_in_the_prompt() -> None:
    """A conversation that goes on without a result is sound only if the prompt says so."""
    sent: list[Said] = [("user", "a"), ("assistant", "", [["call_1", "look_up", "{}"]]), ("user", "b")]

    assert [*sent[:2], ("tool", NOT_EXECUTED, "call_1"), sent[2]] == _executed(sent)


@pytest.mark.parametrize("by_name", [True, False], ids=["responses", "chat completions"])
def test_a_sound_history_by_the_door_has_no_findings(by_name: bool) -> None:
    """Requests with conversations of their own are checked with what their callers sent along or named."""
    findings = check(door_history(turns=4, by_name=by_name))

    assert [] == findings.lines()


def test_an_answer_without_the_response_before_it_is_found() -> None:
    """The bug of a response that does not see the one that it goes on from."""
    evidence = door_history(turns=2, by_name=True)
    alone = history_hash([evidence.messages[-2].said])
    evidence.messages[-1] = replace(evidence.messages[-1], content=alone)

    assert "I3" in check(evidence).broken


def test_a_question_that_its_caller_did_not_send_is_found() -> None:
    """The bug of a chat completion that sees another one's dialogue."""
    evidence = door_history(turns=2, by_name=False)
    stranger = door_history(turns=1, by_name=False)
    evidence.requests += stranger.requests
    evidence.calls[-1] = replace(evidence.calls[-1], seen=(stranger.calls[0].key, *evidence.calls[-1].seen))

    assert "I9" in check(evidence).broken


def test_what_a_cancelled_turn_leaves_is_sound() -> None:
    """A cancelled turn has a reply and no messages, and later turns do not see it."""
    evidence = clean_history(conversations=1, turns=1)
    row = replace(
        evidence.requests[0], id=uuid4(), seq=2, status="cancelled", cancel_requested=True, place=(TOPIC, 0, 1)
    )
    value, event = '{"status": "cancelled", "reply": null}', uuid4()
    evidence.requests.append(row)
    evidence.records += [Record((TOPIC, 0, 1), "message", row.id, "hash"), Record((TOPIC, 0, 2), "cancel", row.id)]
    evidence.outbox.append(replace(evidence.outbox[0], id=1, request_id=row.id, event_id=event, value=value))
    reply = replace(evidence.replies[0], request_id=row.id, event_id=str(event), value=value)
    evidence.replies.append(replace(reply, place=("llm.replies", 0, 1)))
    evidence.log_ends[TOPIC, 0] = evidence.committed[TOPIC, 0] = 3

    assert [] == [line for line in check(evidence).lines() if "key" not in line]


def test_a_refused_record_has_a_reply_and_no_row() -> None:
    """The reply to a refused record needs no row, even if its id is taken in later, and may be repeated."""
    evidence = clean_history(conversations=1)
    refused(evidence)
    evidence.replies.append(replace(evidence.replies[-1], place=("llm.replies", 0, 99)))
    assert [] == check(evidence).lines()

    mended = evidence.requests[0]
    evidence.dead_letters[-1] = replace(evidence.dead_letters[-1], request_id=mended.id)
    evidence.replies[-2:] = [replace(each, request_id=mended.id) for each in evidence.replies[-2:]]
    assert [] == check(evidence).lines()


def test_a_duplicate_of_the_same_body_is_no_loss() -> None:
    """A duplicate with the same body may have no result, and counts as a danger that occurred."""
    evidence = clean_history(conversations=1)
    evidence.records.append(replace(evidence.records[0], place=(TOPIC, 0, 3)))
    evidence.log_ends[TOPIC, 0] = evidence.committed[TOPIC, 0] = 4
    findings = check(evidence)

    assert [] == findings.lines()
    assert 1 == findings.sometimes["duplicate_deduped"]


def test_an_event_that_is_repeated_is_one_event() -> None:
    """A failed producer is replaced, and the next one may repeat what was not acknowledged."""
    evidence = clean_history()
    evidence.events += [replace(event, place=("llm.events", 0, 900 + event.place[2])) for event in evidence.events]

    assert [] == check(evidence).broken


def test_overlap_is_excused_where_a_worker_was_lost() -> None:
    """A turn taken from a lost worker may begin while its old call still runs."""
    evidence = clean_history()
    two_at_a_time(evidence)
    taken_from_the_living(evidence)
    evidence.worker_faults = 1

    assert [] == check(evidence).broken


@pytest.mark.parametrize(("from_its_end", "broken"), [(-0.1, False), (0.1, True)], ids=["while it ran", "after it"])
def test_a_call_is_made_again_if_it_was_open_when_calls_were_broken_off(from_its_end: float, broken: bool) -> None:
    """A killed LLM service explains a second call only to a request whose first one it broke off."""
    evidence = clean_history()
    killed = evidence.calls[-1].end + from_its_end
    evidence.broken_off = [(killed, killed + 0.05)]
    needless_call(evidence)

    assert broken == ("I8" in check(evidence).broken)


@pytest.mark.parametrize("turn", [0, 1], ids=["its call not closed yet", "its call on the way"])
@pytest.mark.parametrize(("ended", "broken"), [(-0.1, False), (0.1, True), (-5.0, True)])
def test_overlap_is_excused_where_a_turn_was_just_cancelled(turn: int, ended: float, broken: bool) -> None:
    """The call of a cancelled turn may reach the model, or run on, just after its turn is over, and no longer."""
    evidence = clean_history()
    two_at_a_time(evidence)
    finished_at = evidence.calls[1].start + ended
    evidence.requests[turn] = replace(evidence.requests[turn], status="cancelled", finished_at=finished_at)

    assert broken == ("I4" in check(evidence).broken)


def test_findings_count_all_and_show_a_few() -> None:
    """Every violation is counted, and only a few are written out."""
    evidence = clean_history(conversations=10)
    evidence.replies = []
    finding = check(evidence).of["I2"]

    assert (30, EXAMPLES) == (finding.count, len(finding.examples))


def test_dangers_that_were_never_met_are_named() -> None:
    """A run without any fault has tested nothing, and reports that."""
    findings = check(clean_history())

    assert set(findings.sometimes) == set(findings.never)
