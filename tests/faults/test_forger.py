"""The campaign's forger: what it writes is well formed, names its target, and lacks only a signature."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

from faults.evidence import DeadLetter, Evidence, Request
from faults.forger import FORGED, Forger, Forgery, Target, forgeries, target_of
from faults.injected import Injected
from faults.ledger import Entry
from gateway.following.events import Hub
from gateway.metrics import Metrics
from orchestra.receipts import Receipts
from orchestra.store import dead_letters
from orchestra.store.intake import NewRequest
from schemas.errors import ErrorCode
from schemas.events import EVENT_TYPES, STARTED
from schemas.requests import CANCEL_REQUESTED
from schemas.topics import EVENTS, REQUESTS
from tests.support.events import SIGNER, tell
from tests.support.records import SECRET, Record, message, reader, signed
from workers.records import Cancel

PLACE, OTHER_PLACE = ("llm.requests", 0, 7), ("llm.requests", 1, 7)


def target() -> Target:
    found = target_of(signed(id=uuid4()))
    assert found is not None
    return found


def of(topic: str, at: Target) -> Sequence[Forgery]:
    return [forgery for forgery in forgeries(at) if forgery.topic == topic]


def test_a_target_is_what_a_gateway_signed() -> None:
    """A forger reads all that an event needs from the request's signed record; an unsigned record is no target."""
    found = target()

    assert ("tenant", b"key") == (found.tenant, found.key)
    assert target_of(Record(message(), b"key")) is None
    assert target_of(Record(b"{", b"key")) is None


def test_every_kind_of_event_is_forged_and_refused() -> None:
    """A gateway that has a signed event applies no forged one, and counts each as unsigned."""
    at, metrics = target(), Metrics()
    hub, events = Hub(metrics, 1 << 20, SIGNER), of(EVENTS.name, at)
    with hub.watch((at.tenant, at.id)) as live:
        tell(hub, STARTED, at.id, at.tenant, at.body_hash, attempt=1, conversation_id=str(uuid4()))
        for event in events:
            hub.take(event.key, event.headers, event.value)
        told = live.attempt, live.window.since(0), live.ending, live.last_error
    unsigned = metrics.registry.get_sample_value("orchestra_gateway_events_unsigned_total")

    assert EVENT_TYPES.keys() == {dict(event.headers)["ce_type"].decode() for event in events}
    assert (1, [], None, None) == told
    assert len(events) == unsigned


def test_its_cancels_are_signed_by_nobody() -> None:
    """A worker verifies no forged cancel as a gateway's, on any partition."""
    at = target()
    cancels = [each for each in of(REQUESTS.name, at) if each.kind == CANCEL_REQUESTED]
    verdicts = [reader().read(Record(each.value, each.key, list(each.headers))) for each in cancels]

    assert {b"key"} < {each.key for each in cancels}
    for verdict in verdicts:
        assert isinstance(verdict, dead_letters.DeadLetter) or (isinstance(verdict, Cancel) and not verdict.signed)


def test_nobody_comes_first_under_anothers_id() -> None:
    """Other requests under the target's id become dead letters; copies of its own record ask for the same thing."""
    id = Receipts([SECRET]).mint("default", "ann", datetime.now(UTC))
    original = signed("default", "ann", id=id)
    at = target_of(original)
    assert at
    ours = reader()
    meant = ours.read(original)
    firsts = [each for each in of(REQUESTS.name, at) if each.kind != CANCEL_REQUESTED]

    verdicts = [ours.read(Record(each.value, each.key, list(each.headers))) for each in firsts]

    letters = [each for each in verdicts if isinstance(each, dead_letters.DeadLetter)]
    copies = [each for each in verdicts if isinstance(each, NewRequest)]
    assert {ErrorCode.UNSIGNED} == {letter.reason for letter in letters}
    assert isinstance(meant, NewRequest)
    assert [(id, meant.body_hash, None)] == [(copy.id, copy.body_hash, copy.deadline) for copy in copies]
    assert (2, 1) == (len(letters), len(copies))


def forger(id: UUID) -> Forger:
    return Forger(Injected("forged", 0), cancels={PLACE: id}, requests={OTHER_PLACE: id})


def test_what_was_believed_is_wrong() -> None:
    """Forged text that was shown, a request cancelled or expired by forgery, and a missing forged record are found."""
    row = Request("default", uuid4(), uuid4(), 1, "completed", "hash", ("llm.requests", 0, 1))
    entry = Entry("answered", "key", uuid4(), 0, row.id, status="completed", reply="a reply")
    letters = [DeadLetter(PLACE, "unsigned"), DeadLetter(OTHER_PLACE, "unsigned")]
    cancelled = Request(row.tenant, row.id, row.conversation_id, 1, "cancelled", "hash", row.place)
    expired = Request(row.tenant, row.id, row.conversation_id, 1, "expired", "hash", row.place)
    told = Entry("answered", "key", uuid4(), 0, row.id, status="completed", reply=f"x{FORGED}")

    def wrong(**more: object) -> int:
        evidence = Evidence(entries=[entry], requests=[row], dead_letters=letters)
        for name, value in more.items():
            setattr(evidence, name, value)
        return len(list(forger(row.id).wrong(evidence)))

    assert 0 == wrong()
    assert 0 == wrong(dead_letters=letters[1:], early_cancels={row.id})
    assert 1 == wrong(requests=[cancelled])
    assert 1 == wrong(requests=[expired])
    assert 1 == wrong(entries=[told])
    assert 2 == wrong(dead_letters=[])
