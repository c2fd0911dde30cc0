"""Promises of workers/records.py: every record is what it asks for, or a dead letter with its reason.

TEST_RECORD_EXAMPLES: the number of generated records for each of five tests, 100 by default (200000, with
`--timeout 0`, makes a million in total).
"""

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import ANY
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.incoming import Judge
from orchestra.kafka.packed_records import Unread
from orchestra.receipts import Receipts
from orchestra.store.dead_letters import DeadLetter
from orchestra.store.intake import NewRequest
from schemas.errors import ErrorCode
from schemas.ids import conversation_id_for_key, conversation_id_for_request, record_id
from schemas.requests import CANCEL_REQUESTED, CONVERSATION_DELETE_REQUESTED, MESSAGE_REQUESTED
from schemas.topics import MAX_RECORD_BYTES
from tests.support.bodies import any_json, bodies, near_bodies
from tests.support.records import SECRET, Headers, Record, message, reader, signed
from workers.records import Cancel, Delete, Verdict, refusal

KNOWN = (
    "ce_id ce_type ce_source ce_subject traceparent correlation_id deadline"
    " orchestra-signature orchestra-tenant orchestra-user orchestra-caller-waits"
).split()
SIGNED = signed()


def read(record: Record) -> Verdict:
    """The verdict on a record."""
    return reader().read(record)


def taken(record: Record) -> NewRequest:
    """The request in a record."""
    verdict = read(record)
    assert isinstance(verdict, NewRequest), verdict
    return verdict


def test_messages_alone_are_a_request() -> None:
    """Messages without key and headers are a request, with defaults that anyone can compute."""
    record = Record()

    request = taken(record)

    assert ("default", "llama3", 5, None, 5, False) == (
        request.tenant,
        request.model,
        request.priority,
        request.deadline,
        request.max_tries,
        request.caller_waits,
    )
    assert record_id(record.topic, record.partition, record.offset, record.timestamp) == request.id
    assert conversation_id_for_request(request.id) == request.conversation_id
    assert {"messages": [{"role": "user", "content": "hi"}]} == request.body


POISON: dict[str, tuple[Record, ErrorCode]] = {
    "bytes": (Record(b"\xff\xfe\x00"), ErrorCode.NOT_JSON),
    "header that is not UTF-8": (Record(headers=[("ce_type", b"\xff")]), ErrorCode.BAD_HEADER),
    "header with NUL": (Record(headers=[("correlation_id", b"a\0b")]), ErrorCode.BAD_HEADER),
    "endless header": (Record(headers=[("traceparent", b"x" * 4097)]), ErrorCode.BAD_HEADER),
    "id that is no UUID": (Record(headers=[("ce_id", b"nonsense")]), ErrorCode.BAD_HEADER),
    "deadline that is no time": (Record(headers=[("deadline", b"tomorrow")]), ErrorCode.BAD_HEADER),
    "tombstone": (Record(None), ErrorCode.TOMBSTONE),
    "empty": (Record(b""), ErrorCode.NOT_JSON),
    "not JSON": (Record(b"{"), ErrorCode.NOT_JSON),
    "JSON of another kind": (Record(b"[]"), ErrorCode.INVALID_REQUEST),
    "no messages": (Record(b'{"messages":[]}'), ErrorCode.INVALID_REQUEST),
    "10 MiB": (Record(message("x" * 10 * 1024 * 1024)), ErrorCode.TOO_LARGE),
    "unknown type": (Record(headers=[("ce_type", b"llm.message.requested.v2")]), ErrorCode.UNKNOWN_TYPE),
    "cancel of nothing": (Record(b"{}", headers=[("ce_type", b"llm.cancel.requested")]), ErrorCode.INVALID_REQUEST),
    "foreign tenant": (Record(headers=[("orchestra-tenant", b"them"), ("orchestra-signature", b"v1=0")]),
                       ErrorCode.BAD_SIGNATURE),
    "signature of another secret": (signed(secret=b"x" * 32), ErrorCode.BAD_SIGNATURE),
    "deep JSON": (Record(b'{"messages":' + b"[" * 200_000), ErrorCode.NOT_JSON),
    "NaN": (Record(b'{"messages":[{"role":"user","content":"x"}],"temperature":NaN}'), ErrorCode.NOT_JSON),
    "NUL": (Record(message("a\0b")), ErrorCode.INVALID_REQUEST),
    "lone surrogate": (Record(message("\ud800")), ErrorCode.INVALID_REQUEST),
    "two ids": (Record(message(id=str(uuid4())), headers=[("ce_id", str(uuid4()).encode())]),
                ErrorCode.INVALID_REQUEST),
}  # fmt: skip


@pytest.mark.parametrize(("record", "reason"), POISON.values(), ids=POISON)
def test_poison_is_a_dead_letter_with_its_reason(record: Record, reason: ErrorCode) -> None:
    """A bad record is a whole dead letter with its place, and its detail quotes nothing of it."""
    letter = read(record)

    assert isinstance(letter, DeadLetter)
    assert reason is letter.reason
    assert letter.detail
    assert (record.topic, record.partition, record.offset, record.timestamp) == (
        letter.topic,
        letter.partition,
        letter.offset,
        letter.timestamp_ms,
    )
    assert (record.key, record.value, list(record.headers)) == (letter.key, letter.value, letter.headers)


MANY = settings(max_examples=int(os.environ.get("TEST_RECORD_EXAMPLES", "100")))
READER = reader()
TYPES = st.sampled_from([MESSAGE_REQUESTED, CANCEL_REQUESTED, CONVERSATION_DELETE_REQUESTED])
# Nearly right, so that the code behind the first check is reached as well.
GOOD = st.uuids().map(str) | st.datetimes().map(str) | TYPES | st.sampled_from(["1", "v1=0", "default"])
HEADER_VALUES = (
    st.none()
    | st.binary(max_size=30)
    | (st.text(max_size=10) | GOOD).map(lambda text: text.encode("utf-8", "ignore"))
    | st.binary(min_size=1, max_size=1).map(lambda byte: byte * 4097)
)
# As a worker's consumer returns a header's name, whatever its bytes.
ANY_NAME = st.binary(max_size=10).map(lambda name: name.decode("utf-8", "backslashreplace"))
HEADERS = st.lists(st.tuples(st.sampled_from(KNOWN) | ANY_NAME, HEADER_VALUES), max_size=5)
KEYS = st.none() | st.binary(max_size=20) | st.uuids().map(lambda id: str(id).encode())


def judged(record: Record) -> Verdict:
    """The verdict on a record, which must be one that can be stored, whatever the bytes."""
    verdict = READER.read(record)
    if isinstance(verdict, NewRequest):
        # As Postgres stores it: valid UTF-8 without U+0000.
        assert b"\\u0000" not in json.dumps(verdict.body, ensure_ascii=False).encode().replace(b"\\\\", b"")
        assert 0 <= verdict.priority <= 9
        for moment in (verdict.deadline, verdict.not_before):
            assert moment is None or moment.utcoffset() == timedelta(0)
    if isinstance(verdict, DeadLetter):
        assert verdict.reason is not ErrorCode.INTERNAL
        assert "\0" not in verdict.detail.encode().decode()
        assert (record.key, record.value, list(record.headers)) == (verdict.key, verdict.value, verdict.headers)
    return verdict


@MANY
@given(st.none() | st.binary(max_size=200), KEYS, HEADERS)
def test_no_bytes_can_break_reading(value: bytes | None, key: bytes | None, headers: Headers) -> None:
    """Any bytes get a verdict without an error or a crash inside."""
    judged(Record(value, key, headers))


@MANY
@given(any_json(), KEYS, HEADERS)
def test_no_json_can_break_reading(value: Any, key: bytes | None, headers: Headers) -> None:
    """Any JSON gets a verdict."""
    judged(Record(json.dumps(value).encode(), key, headers))


@MANY
@given(near_bodies(), KEYS, HEADERS)
def test_no_body_that_is_nearly_right_can_break_reading(
    body: dict[str, Any], key: bytes | None, headers: Headers
) -> None:
    """Any combination of right, wrong and missing fields gets a verdict."""
    judged(Record(json.dumps(body).encode(), key, headers))


@MANY
@given(near_bodies(), st.data())
def test_no_bytes_amiss_can_break_reading(body: dict[str, Any], data: st.DataObject) -> None:
    """A truncated or corrupted value gets a verdict."""
    value = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(value)), st.integers(0, len(value)))))
    judged(Record(value[:start] + data.draw(st.binary(max_size=4)) + value[end:]))


@MANY
@given(near_bodies(), TYPES, KEYS, HEADERS)
def test_nothing_beside_a_signature_can_break_reading(
    body: dict[str, Any], type: str, key: bytes | None, headers: Headers
) -> None:
    """A signed record belongs to its tenant or is refused, whatever its other headers are."""
    genuine = signed("someone", "ann", value=json.dumps(body).encode(), key=key, type=type)
    verdict = judged(Record(genuine.value, key, [*genuine.headers, *headers]))

    match verdict:
        case NewRequest():
            assert (verdict.tenant, verdict.user) == ("someone", "ann")
        case Cancel(request=(tenant, _), signed=counts) | Delete(conversation=(tenant, _), signed=counts):
            assert (tenant, counts) == ("someone", True)
        case DeadLetter(reason=ErrorCode.BAD_SIGNATURE):
            assert verdict.tenant == "default"
        case DeadLetter():
            # A bad header may be covered by the signature.
            assert verdict.tenant in {"someone", "default"}


@given(bodies())
def test_every_good_body_is_taken_in(body: dict[str, Any]) -> None:
    """A body that the gateway would accept is accepted from a producer, with the same hash."""
    request = taken(Record(json.dumps(body).encode(), b"key"))

    assert body["messages"] == request.body["messages"]
    assert request.body_hash == taken(Record(json.dumps(body).encode(), b"other")).body_hash


BY_REFERENCE = {"body_ref": {"file_id": "file-1", "sha256": "a" * 64, "bytes": 3, "body_hash": "b" * 64}}


def test_only_a_gateway_names_a_body() -> None:
    """A signed record with a body by reference is a request with the hash of the whole; an unsigned one is refused."""
    value = json.dumps({"model": "m", **BY_REFERENCE}).encode()

    request, letter = taken(signed(value=value)), read(Record(value=value))

    assert ({"model": "m", **BY_REFERENCE}, "b" * 64) == (request.body, request.body_hash)
    assert isinstance(letter, DeadLetter)
    assert ErrorCode.UNSIGNED == letter.reason


def test_urls_of_media_are_refused_unless_they_are_allowed() -> None:
    """What a gateway has signed, it has checked."""
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    value = json.dumps({"messages": [{"role": "user", "content": [part]}]}).encode()

    letter = read(Record(value=value))

    assert isinstance(letter, DeadLetter)
    assert ErrorCode.UNSUPPORTED_PART == letter.reason
    assert isinstance(reader(media_urls=True).read(Record(value=value)), NewRequest)
    assert isinstance(read(signed(value=value)), NewRequest)


def test_a_byte_order_mark_before_the_value_is_skipped() -> None:
    """A byte order mark before the value changes nothing."""
    assert taken(Record()).body_hash == taken(Record(b"\xef\xbb\xbf" + message())).body_hash


def test_headers_of_others_are_left_alone() -> None:
    """Unknown headers are ignored, whatever their value, and even if they repeat."""
    headers = [("x-binary", b"\xff\x00"), ("x-binary", b"\xfe"), ("x-none", None), ("content-type", b"\xff")]

    assert headers == taken(Record(headers=headers)).record.headers


def test_known_headers_without_a_value_are_absent() -> None:
    """A known header without a value counts as absent."""
    assert taken(Record(headers=[(name, None) for name in KNOWN]))


def test_headers_say_what_they_say() -> None:
    """Id, correlation id, trace, deadline and a waiting client reach the request from the headers."""
    id = uuid4()
    headers = {
        "ce_id": str(id),
        "correlation_id": "any text: ü",
        "traceparent": "00-1-2-03",
        "deadline": "2026-01-01T00:00:00+01:00",
        "orchestra-caller-waits": "1",
    }

    request = taken(Record(headers=[(name, text.encode()) for name, text in headers.items()]))

    assert (id, "any text: ü", "00-1-2-03") == (request.id, request.correlation_id, request.traceparent)
    assert datetime(2025, 12, 31, 23, tzinfo=UTC) == request.deadline
    assert (True, 3) == (request.caller_waits, request.max_tries)


def test_the_bodys_deadline_comes_before_the_headers() -> None:
    """A deadline in the body overrides one in the headers."""
    record = Record(message(deadline="2026-01-01T00:00:00Z"), headers=[("deadline", b"2027-01-01T00:00:00Z")])

    assert datetime(2026, 1, 1, tzinfo=UTC) == taken(record).deadline


def test_the_id_is_the_headers_else_the_bodys_else_the_places() -> None:
    """The id comes from the header, else the body, else the place; equal ids in both are accepted."""
    one = uuid4()

    assert one == taken(Record(headers=[("ce_id", str(one).encode())])).id
    assert one == taken(Record(message(id=str(one)))).id
    assert one == taken(Record(message(id=str(one)), headers=[("ce_id", str(one).upper().encode())])).id
    assert taken(Record()).id != taken(Record()).id


def test_the_id_in_the_body_is_no_part_of_what_is_asked() -> None:
    """The id in the body is not part of the hash and is not stored with the body."""
    with_id = taken(Record(message(id=str(uuid4()))))

    assert (taken(Record(message())).body_hash, False) == (with_id.body_hash, "id" in with_id.body)


@pytest.mark.parametrize("key", [b"customer 7", b"\xff\xfe", "ünï".encode(), b"\0"])
def test_a_key_names_a_conversation(key: bytes) -> None:
    """A key of any bytes names a conversation, a different one in each tenant."""
    mine = taken(Record(message(), key)).conversation_id

    assert conversation_id_for_key("default", key) == mine == taken(Record(message(), key)).conversation_id
    assert mine != taken(Record(message(), key, topic="theirs")).conversation_id


def test_a_uuid_as_key_is_the_conversation() -> None:
    """A UUID as key is the conversation's id."""
    conversation = uuid4()

    assert conversation == taken(Record(message(), str(conversation).encode())).conversation_id


def test_the_bodys_conversation_comes_before_the_key() -> None:
    """A conversation in the body overrides the key."""
    conversation = uuid4()

    assert conversation == taken(Record(message(conversation_id=str(conversation)), b"key")).conversation_id


def test_cancels_and_deletions_are_read() -> None:
    """Cancels and deletions belong to the topic's tenant and keep the record in case they are ignored."""
    id = uuid4()
    cancel = Record(json.dumps({"request_id": str(id)}).encode(), headers=[("ce_type", b"llm.cancel.requested")])
    delete = Record(
        json.dumps({"conversation_id": str(id)}).encode(),
        headers=[("ce_type", b"llm.conversation.delete.requested")],
        topic="theirs",
    )

    found = [read(cancel), read(delete)]

    assert [Cancel(("default", id), ANY, signed=False), Delete(("them", id), ANY, signed=False)] == found
    for record, verdict in zip((cancel, delete), found, strict=True):
        assert isinstance(verdict, Cancel | Delete)
        assert (record.offset, record.value) == (verdict.record.offset, verdict.record.value)


def test_a_signed_record_is_its_tenants() -> None:
    """A signed record has the tenant and user of its signature, whatever its topic."""
    id = uuid4()

    request = taken(signed("someone", "ann", id=id))

    assert ("someone", "ann", id, "someone") == (request.tenant, request.user, request.id, request.record.tenant)


def test_who_names_the_conversation_is_known() -> None:
    """An unsigned key is distinguished from a gateway's key and from a conversation in the body."""
    named = message(conversation_id=str(uuid4()))

    found = [taken(each) for each in (Record(key=b"k"), Record(), Record(named, b"k"), signed())]

    assert [(False, True), (False, False), (False, False), (True, True)] == [
        (each.signed, each.keyed) for each in found
    ]


def test_a_signed_cancel_is_its_tenants() -> None:
    """A signed cancel has the tenant of its signature."""
    id = uuid4()
    record = signed("someone", value=json.dumps({"request_id": str(id)}).encode(), type="llm.cancel.requested")

    assert Cancel(("someone", id), ANY) == read(record)


def test_an_unsigned_tenant_is_never_believed() -> None:
    """The tenant of an unsigned record is its topic's, whatever the headers and the body name."""
    record = Record(
        message(tenant="them", user="root"), headers=[("orchestra-tenant", b"them"), ("orchestra-user", b"root")]
    )

    request = taken(record)

    assert ("default", None) == (request.tenant, request.user)


@pytest.mark.parametrize(
    "spoof",
    [
        Record(SIGNED.value, b"other key", SIGNED.headers),
        Record(message("other"), SIGNED.key, SIGNED.headers),
        Record(None, SIGNED.key, SIGNED.headers),
        Record(SIGNED.value, SIGNED.key, [*SIGNED.headers, ("orchestra-tenant", b"them")]),
        Record(SIGNED.value, SIGNED.key, [*SIGNED.headers, ("orchestra-user", b"root")]),
        Record(SIGNED.value, SIGNED.key, [*SIGNED.headers, ("ce_id", str(uuid4()).encode())]),
        Record(SIGNED.value, SIGNED.key, [*SIGNED.headers, ("ce_type", b"llm.cancel.requested")]),
        Record(SIGNED.value, SIGNED.key, [each for each in SIGNED.headers if each[0] != "orchestra-tenant"]),
        signed(""),
    ],
    ids=["key", "value", "no value", "tenant", "user", "id", "type", "no tenant", "empty tenant"],
)
def test_a_signature_on_something_else_is_none(spoof: Record) -> None:
    """A genuine signature on another record makes it a dead letter of the topic's tenant."""
    letter = read(spoof)

    assert isinstance(letter, DeadLetter)
    assert (ErrorCode.BAD_SIGNATURE, "default") == (letter.reason, letter.tenant)


@pytest.mark.parametrize("type", [None, "llm.cancel.requested"])
def test_unsigned_records_can_be_refused(type: str | None) -> None:
    """If signatures are required, an unsigned record is a dead letter, and so is a cancel."""
    strict = reader(require_signed=True)
    record = Record(
        json.dumps({"request_id": str(uuid4())}).encode() if type else message(),
        headers=[("ce_type", type.encode())] if type else [],
    )

    letter = strict.read(record)

    assert isinstance(letter, DeadLetter)
    assert ErrorCode.UNSIGNED is letter.reason
    assert isinstance(strict.read(signed()), NewRequest)


@pytest.mark.parametrize(
    "record", [Record(b"no json"), Record(None), Record(headers=[("ce_id", b"4711"), ("orchestra-signature", None)])]
)
def test_unsigned_comes_before_any_other_reason(record: Record) -> None:
    """A missing signature is reported before any other fault, so that no replay treats the record as trusted."""
    letter = reader(require_signed=True).read(record)

    assert isinstance(letter, DeadLetter)
    assert ErrorCode.UNSIGNED is letter.reason


def test_a_dead_letter_has_the_id_under_which_it_is_asked_for() -> None:
    """A dead letter has the id of the header, else of a readable body, else of the place."""
    id = uuid4()
    ids = [
        Record(b"nonsense", headers=[("ce_id", str(id).encode())]),
        Record(json.dumps({"id": str(id)}).encode()),
    ]
    nameless = Record(b'{"id": 7}')

    assert [id, id] == [_letter(record).request_id for record in ids]
    assert record_id(nameless.topic, 3, nameless.offset, nameless.timestamp) == _letter(nameless).request_id


AN_ID = uuid4()
GOOD_ID = ("ce_id", str(AN_ID).encode())
OTHERS = [name for name in KNOWN if name != "ce_id"]
BAD = st.sampled_from([b"\xff", b"a\0b", b"x" * 4097])


@pytest.mark.parametrize(
    "bad",
    [
        ("deadline", b"1795000000000"), ("correlation_id", b"x" * 4097), ("correlation_id", b"a\0b"),
        ("correlation_id", b"\xff"), ("traceparent", b"\xff"), ("ce_type", b"\xff"), ("ce_source", b"\0"),
        ("orchestra-caller-waits", b"\xff"), ("ce_id", b"\xff"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", [0, 1])
def test_a_bad_header_takes_no_id_away(bad: tuple[str, bytes], place: int) -> None:
    """A bad header does not hide the id in another one."""
    headers = [GOOD_ID]
    headers.insert(place, bad)
    for record in (Record(headers=headers), Record(message(id=str(AN_ID)), headers=[bad])):
        letter = _letter(record)
        assert (AN_ID, ErrorCode.BAD_HEADER) == (letter.request_id, letter.reason)


@pytest.mark.parametrize(
    "record",
    [
        Record(None, headers=[GOOD_ID]),
        Record(b"{", headers=[GOOD_ID]),
        Record(message("x" * 3 * 1024 * 1024), headers=[GOOD_ID]),
        Record(headers=[GOOD_ID, ("ce_type", b"unknown")]),
        Record(headers=[GOOD_ID, ("orchestra-signature", b"v1=0")]),
        Record(message(id=str(AN_ID)), headers=[("orchestra-signature", b"v1=0")]),
        Record(message(id=str(AN_ID)), headers=[("orchestra-signature", b"\xff")]),
        Record(message("a\0b", id=str(AN_ID))),
        Record(message(id=str(AN_ID)), headers=[("ce_id", b"nonsense")]),
    ],
)
def test_no_other_fault_takes_an_id_away(record: Record) -> None:
    """A fault of the value, type or signature does not hide the id, which is one of the topic's tenant."""
    letter = _letter(record)

    assert (AN_ID, "default") == (letter.request_id, letter.tenant)


@pytest.mark.parametrize("part", ["judge", "whose"])
def test_a_bug_takes_no_record_away(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug while reading makes a dead letter, under its id if that is readable."""
    monkeypatch.setattr(Judge, part, None)

    letter = reader().read(Record(headers=[GOOD_ID]))

    assert isinstance(letter, DeadLetter)
    assert ErrorCode.INTERNAL is letter.reason
    assert (part == "judge") == (letter.request_id == AN_ID)


@pytest.mark.parametrize("record", [Record(headers=[GOOD_ID]), Record(message(id=str(AN_ID)))])
def test_an_unsigned_record_is_told_of_under_its_id(record: Record) -> None:
    """An unsigned record that is refused keeps its id within its topic's tenant."""
    record.topic = "theirs"
    letter = reader(require_signed=True).read(record)

    assert isinstance(letter, DeadLetter)
    assert (AN_ID, "them", ErrorCode.UNSIGNED) == (letter.request_id, letter.tenant, letter.reason)


def test_a_signed_record_with_a_bad_header_is_its_tenants() -> None:
    """A signed record with another bad header is a dead letter of the signature's tenant."""
    genuine = signed("someone", "ann", id=AN_ID)
    letter = _letter(Record(genuine.value, genuine.key, [*genuine.headers, ("deadline", b"\xff")]))

    assert (AN_ID, "someone", ErrorCode.BAD_HEADER) == (letter.request_id, letter.tenant, letter.reason)


@MANY
@given(
    st.none() | st.binary(max_size=50) | any_json().map(lambda value: json.dumps(value).encode()),
    KEYS,
    st.lists(st.tuples(st.sampled_from(OTHERS), HEADER_VALUES | BAD) | st.tuples(ANY_NAME, HEADER_VALUES), max_size=5),
    st.integers(0, 5),
    st.booleans(),
)
def test_the_id_that_can_be_read_is_the_letters(
    value: bytes | None, key: bytes | None, others: Headers, place: int, strict: bool
) -> None:
    """A dead letter has the readable id, whatever else is wrong and wherever the `ce_id` is."""
    others = [each for each in others if each[0] != "ce_id"]
    headers = [*others[:place], GOOD_ID, *others[place:]]
    verdict = reader(require_signed=strict).read(Record(value, key, headers))

    if isinstance(verdict, DeadLetter):
        assert (AN_ID, "default") == (verdict.request_id, verdict.tenant)


def _letter(record: Record) -> DeadLetter:
    verdict = read(record)
    assert isinstance(verdict, DeadLetter)
    return verdict


def test_a_dead_letter_of_a_signed_record_is_its_tenants() -> None:
    """The dead letter of a signed record belongs to its owner and is visible to no one else."""
    letter = _letter(signed("someone", value=b"nonsense"))

    assert ("someone", ErrorCode.NOT_JSON) == (letter.tenant, letter.reason)


@pytest.mark.parametrize(
    ("record", "replied"),
    [
        (Record(b"{", headers=[GOOD_ID]), True),
        (Record(message("a\0b", id=str(AN_ID))), True),
        (Record(None, headers=[GOOD_ID]), True),
        (Record(b"{", headers=[("correlation_id", b"order-7")]), True),
        (Record(b"{", headers=[("correlation_id", b"order-7"), ("ce_id", b"\xff")]), True),
        (Record(headers=[GOOD_ID, ("ce_type", b"llm.message.requested.v9")]), True),
        (Record(headers=[GOOD_ID, ("orchestra-signature", b"v1=0")]), True),
        (Record(b"{"), False),
        (Record(b"{", headers=[("correlation_id", b"a\0b")]), False),
        (Record(b"{", headers=[GOOD_ID, ("ce_type", CANCEL_REQUESTED.encode())]), False),
        (Record(b"{", headers=[GOOD_ID, ("ce_type", CONVERSATION_DELETE_REQUESTED.encode())]), False),
    ],
)
def test_who_is_due_a_reply(record: Record, replied: bool) -> None:
    """A refused record gets a reply if it has an id or a correlation id; cancels and deletions get none."""
    letter = _letter(record)
    reply = refusal(letter)

    assert replied == (reply is not None)
    assert reply is None or (letter.request_id, letter.reason, letter.detail, 0) == (
        reply.request_id,
        reply.error and reply.error.code,
        reply.error and reply.error.detail,
        reply.attempts,
    )


def test_the_reply_to_a_refused_record_is_the_same_each_time() -> None:
    """The reply to a refused record depends only on its place and timestamp, even an impossible one."""
    for timestamp, year in ((1_700_000_000_000, 2023), (-1, 1970), (2**62, 1970)):
        record = Record(b"{", headers=[GOOD_ID], timestamp=timestamp, offset=7)
        first, second = refusal(_letter(record)), refusal(_letter(record))
        assert first is not None
        assert second is not None
        assert first.model_dump_json() == second.model_dump_json()
        assert (year, 7) == (first.finished_at.year, first.source and first.source.offset)


def test_the_reply_to_a_refused_record_is_in_its_conversation() -> None:
    """The reply is in the conversation of a readable body, else of the key, else in one of its own."""
    conversation = uuid4()
    refused = [
        Record(json.dumps({"conversation_id": str(conversation)}).encode(), b"key", [GOOD_ID]),
        Record(b"{", b"key", [GOOD_ID]),
        Record(b"{", None, [GOOD_ID]),
    ]

    found = [reply and reply.conversation_id for reply in map(refusal, map(_letter, refused))]

    assert [conversation, conversation_id_for_key("default", b"key"), conversation_id_for_request(AN_ID)] == found


def test_the_largest_record_is_read() -> None:
    """A record of exactly the maximum size is read."""
    overhead = len(message(""))

    assert taken(Record(message("x" * (MAX_RECORD_BYTES - overhead))))


def unread(code: ErrorCode, length: int | None, headers: Any = ()) -> Record:
    """A record whose value was not read."""
    return Record(Unread.because(code, "records 3 to 9", length), b"key", headers)


@pytest.mark.parametrize("code", [ErrorCode.TOO_LARGE, ErrorCode.NOT_JSON])
def test_a_value_that_was_not_read_is_a_dead_letter(code: ErrorCode) -> None:
    """A record with an unread value is a dead letter with its reason, its trusted id and tenant, and no value."""
    id = uuid4()
    headers = [("ce_id", str(id).encode()), ("orchestra-tenant", b"them"), ("orchestra-signature", b"v1=x")]

    letter = read(unread(code, 4711, headers))

    assert isinstance(letter, DeadLetter)
    assert (code, "records 3 to 9", None, 4711) == (letter.reason, letter.detail, letter.value, letter.value_bytes)
    assert ("default", id, b"key") == (letter.tenant, letter.request_id, letter.key)


def test_an_unsigned_value_that_was_not_read_is_unsigned() -> None:
    """If signatures are required, an unsigned unread value is refused as unsigned and still names the lost records."""
    letter = reader(require_signed=True).read(unread(ErrorCode.TOO_LARGE, None))

    assert isinstance(letter, DeadLetter)
    assert (ErrorCode.UNSIGNED, "records 3 to 9") == (letter.reason, letter.detail)


@pytest.mark.parametrize(
    ("record", "priority"),
    [
        (Record(message(priority=9)), 4),
        (Record(message()), 4),
        (Record(message(priority=3)), 3),
        (Record(message(priority=9), topic="theirs"), 9),
        (signed(value=message(priority=9)), 9),
    ],
)
def test_producers_get_the_priority_that_their_topic_allows(record: Record, priority: int) -> None:
    """Only an unsigned record's priority is lowered to its topic's limit, and its body stays unchanged."""
    request = reader(priorities={"llm.requests": 4}).read(record)

    assert isinstance(request, NewRequest)
    assert priority == request.priority


HINTS = [("traceparent", f"00-{'1' * 32}-{'2' * 16}-00"), ("deadline", "2999-01-01T00:00:00Z"), ("correlation_id", "c")]


def test_what_a_gateway_has_signed_beside_the_body_counts() -> None:
    """The signed trace, deadline and waiting-client hint reach the request."""
    verdict = reader().read(signed(hints=[*HINTS, ("orchestra-caller-waits", "1")]))

    assert isinstance(verdict, NewRequest)
    assert (HINTS[0][1], "c", True) == (verdict.traceparent, verdict.correlation_id, verdict.caller_waits)
    assert verdict.deadline
    assert 2999 == verdict.deadline.year


@pytest.mark.parametrize("hint", [*HINTS, ("deadline", "2020-01-01T00:00:00Z"), ("orchestra-caller-waits", "1")])
@pytest.mark.parametrize("kept", [True, False])
def test_what_somebody_has_put_beside_a_gateways_signature_does_not_count(hint: tuple[str, str], *, kept: bool) -> None:
    """A copy of a signed record with other hints is the request as it was signed."""
    record, ours = signed(hints=[("traceparent", HINTS[0][1].replace("1", "3"))]), reader()
    ours.read(signed())
    headers = [each for each in record.headers if kept or each[0] != "orchestra-hints"]
    record.headers = [*headers, (hint[0], hint[1].encode())]

    verdict = ours.read(record)

    assert isinstance(verdict, NewRequest)
    assert (None, None, None, False) == (
        verdict.traceparent, verdict.correlation_id, verdict.deadline, verdict.caller_waits,
    )  # fmt: skip


def gateways_id(tenant: str = "default", *, derived: bool = False) -> UUID:
    receipts = Receipts([SECRET])
    if derived:
        return receipts.derive(tenant, "ann", "POST", "/v1/messages", "key")
    return receipts.mint(tenant, "ann", datetime.now(UTC))


@pytest.mark.parametrize("derived", [True, False])
@pytest.mark.parametrize("in_body", [True, False])
@pytest.mark.parametrize("value", [message(), b"nonsense", None])
def test_nothing_unsigned_takes_an_id_that_a_gateway_gave_out(
    value: bytes | None, *, in_body: bool, derived: bool
) -> None:
    """An unsigned record with a gateway's id is a dead letter under another id."""
    id = gateways_id(derived=derived)
    in_body = in_body and value == message()
    record = Record(message(id=str(id))) if in_body else Record(value, headers=[("ce_id", str(id).encode())])

    letter = reader().read(record)

    assert isinstance(letter, DeadLetter)
    assert id != letter.request_id
    assert (ErrorCode.UNSIGNED if value == message() else letter.reason) == letter.reason


def test_another_tenants_id_is_nobodys() -> None:
    """An id that was given out in another tenant is free in this one."""
    assert isinstance(reader().read(Record(message(id=str(gateways_id("them"))))), NewRequest)


def test_a_gateways_own_id_comes_with_its_signature() -> None:
    """A signed record keeps the id that its gateway gave out."""
    id = gateways_id()
    verdict = reader().read(signed("default", "ann", id=id))

    assert isinstance(verdict, NewRequest)
    assert id == verdict.id


def test_an_older_gateway_signs_no_hints() -> None:
    """Unsigned hints of an older gateway count until a newer one is known; its deadline is in the signed body."""
    record = signed(hints=[*HINTS, ("orchestra-caller-waits", "1")])
    record.headers = [each for each in record.headers if each[0] != "orchestra-hints"]

    verdict = reader().read(record)

    assert isinstance(verdict, NewRequest)
    assert (HINTS[0][1], True) == (verdict.traceparent, verdict.caller_waits)
    assert (None, None) == (verdict.deadline, verdict.correlation_id)
