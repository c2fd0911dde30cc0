"""Promises of gateway/replays.py: which dead letters are replayed, and for which owner."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from gateway.accept import Acceptance
from gateway.metrics import Metrics
from gateway.people.principal import EVERYTHING, Principal
from gateway.replays import Replays
from orchestra.incoming import Judge
from orchestra.signing import Signer
from orchestra.store import audit, dead_letters
from orchestra.store.audit import Author
from orchestra.store.database import Database
from orchestra.store.dead_letters import DeadLetter, KeptLetter
from schemas.api.audit import Action, AuditFilter
from schemas.api.dead_letters import DeadLetterFilter, EditDeadLetter, ReplayDeadLetters
from schemas.dead_letters import RawHeaders
from schemas.envelope import read_headers
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import CANCEL_REQUESTED, CONVERSATION_DELETE_REQUESTED, MESSAGE_REQUESTED, MessageRequested
from schemas.topics import MAX_RECORD_BYTES
from tests.support.people import one_owner
from tests.support.records import message
from tests.support.store import letter, request, take

SECRET, OLD = b"n" * 32, b"o" * 32
GOOD = message()
ADMIN = Principal("default", "admin", EVERYTHING, key_id="abc")
CANARY = "canary-51"


@dataclass
class Log:
    """Keeps what would be written; the next writes fail with ``errors``."""

    records: list[tuple[bytes | None, bytes, RawHeaders]] = field(default_factory=list)
    errors: list[OrchestraError | None] = field(default_factory=list)

    async def write(self, key: bytes | None, value: bytes, headers: Any) -> None:
        error = self.errors.pop(0) if self.errors else None
        if error:
            raise error
        raw = [(name, each.encode() if isinstance(each, str) else each) for name, each in headers]
        self.records.append((key, value, raw))


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def replays(database: Database, log: Log) -> Replays:
    return Replays(database, Acceptance(log, database, [SECRET], Metrics(), one_owner()), Judge([SECRET]))  # type: ignore[arg-type]


async def kept(database: Database, *letters: DeadLetter) -> list[int]:
    """Store these letters, and return their numbers."""
    for each in letters:
        await take(database, dead_letters=[each])
    rows = await database.run("SELECT id FROM dead_letters ORDER BY id DESC LIMIT :n", n=len(letters))
    return [row.id for row in reversed(rows)]


def signed(tenant: str = "default", user: str = "ann", secret: bytes = SECRET, **changes: Any) -> DeadLetter:
    """A letter of a record that a gateway wrote for a user."""
    id, value, key = uuid4(), changes.pop("value", GOOD), b"key"
    signature = Signer([secret]).sign(
        id=str(id), type=MESSAGE_REQUESTED, tenant=tenant, user=user, key=key, value=value
    )
    headers: RawHeaders = [
        ("ce_id", str(id).encode()), ("ce_type", MESSAGE_REQUESTED.encode()), ("orchestra-tenant", tenant.encode()),
        ("orchestra-user", user.encode()), ("orchestra-signature", signature.encode()),
        ("orchestra-caller-waits", b"1"), ("traceparent", b"trace"), ("theirs", b"\xff"),
    ]  # fmt: skip
    made = {"key": key, "value": value, "headers": headers, "request_id": id, "tenant": tenant, **changes}
    return letter(**made).because(ErrorCode.REFUSED_BY_DATABASE, "")


async def refusal(replays: Replays, id: int) -> str:
    """Why a letter is not sent."""
    with pytest.raises(OrchestraError) as caught:
        await replays.send(ADMIN, id)
    assert caught.value.code is ErrorCode.NOT_REPLAYABLE
    shown = await replays.obstacle(await replays.find(ADMIN, id))
    assert shown is not None
    assert f"{shown.code}: {shown.detail}" == caught.value.detail
    return str(shown.code)


def believed(log: Log, tenant: str, user: str, id: UUID | None, key: bytes | None, value: bytes) -> dict[str, Any]:
    """The headers of the one record that was sent, verified as a worker would."""
    ((sent_key, sent_value, headers),) = log.records
    read = read_headers(headers)
    assert (key, value) == (sent_key, sent_value)
    assert (tenant, user, id) == (read.tenant, read.user, read.id)
    assert Signer([SECRET]).verify(
        read.signature or "", id=str(read.id), type=read.type or MESSAGE_REQUESTED, tenant=tenant, user=user,
        key=key or b"", value=value,
    )  # fmt: skip
    assert len(dict(headers)) == len(headers)
    return dict(headers)


async def test_what_an_erased_owner_asked_is_never_sent(database: Database, replays: Replays, log: Log) -> None:
    """Its letter says so, edited or not: there is nothing of the record, and an edit would be the tenant's."""
    erased = letter(key=None, value=None, value_bytes=100, headers=[]).because(ErrorCode.OWNER_ERASED, "erased")
    (id,) = await kept(database, erased)

    assert await refusal(replays, id) == "owner_erased"
    await replays.edit(ADMIN, id, EditDeadLetter.model_validate({"value": GOOD.decode()}))
    assert await refusal(replays, id) == "owner_erased"
    assert [] == log.records


@pytest.mark.parametrize("key", [None, b"", b"\xff key"])
async def test_a_strangers_record_goes_as_the_tenants_own(
    database: Database, replays: Replays, log: Log, key: bytes | None
) -> None:
    """An unsigned record is sent unchanged, signed for the tenant of its topic, under the id it was known by."""
    headers: RawHeaders = [("correlation_id", b"c-1"), ("none", None), ("theirs", b"\xff")]
    asked = letter(key=key, value=GOOD, headers=headers).because(ErrorCode.INTERNAL, "")
    (id,) = await kept(database, asked)

    sent = await replays.send(ADMIN, id)

    found = believed(log, "default", "", asked.request_id, key, GOOD)
    assert {**found, **dict(headers)} == found
    assert sent.summary.replayed_at is not None
    assert asked.request_id == sent.summary.replayed_as


async def test_somebodys_record_goes_in_his_name(database: Database, replays: Replays, log: Log) -> None:
    """A signed record stays its owner's when an admin replays it, and no longer counts as one a caller waits for."""
    asked = signed()
    (id,) = await kept(database, asked)

    await replays.send(ADMIN, id)

    found = believed(log, "default", "ann", asked.request_id, b"key", GOOD)
    assert (b"trace", b"\xff") == (found["traceparent"], found["theirs"])
    assert "orchestra-caller-waits" not in found


async def test_an_edit_is_sent_in_the_same_name(database: Database, replays: Replays, log: Log) -> None:
    """Value, key and headers of an edit are sent for the record's owner; headers that claim another are ignored."""
    (id,) = await kept(database, signed(value=b"broken"))
    other = uuid4()
    wanted = {
        "key": "new", "value": GOOD.decode(),
        "headers": [{"name": "ce_id", "value": str(other)}, {"name": "orchestra-user", "value": "bob"},
                    {"name": "orchestra-tenant", "value": "them"}, {"name": "orchestra-signature", "value": "v1=x"}],
    }  # fmt: skip
    await replays.edit(ADMIN, id, EditDeadLetter.model_validate(wanted))

    sent = await replays.send(ADMIN, id)

    believed(log, "default", "ann", other, b"new", GOOD)
    assert other == sent.summary.replayed_as


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"value": b"no json"}, "not_json"),
        ({"value": None}, "tombstone"),
        ({"value": b"{}"}, "invalid_request"),
        ({"value": b" " * (MAX_RECORD_BYTES + 1)}, "too_large"),
        ({"value": None, "value_bytes": 800 * 1024 * 1024}, "too_large"),
        ({"headers": [("ce_type", b"nonsense")]}, "unknown_type"),
        ({"headers": [("ce_id", b"4711")]}, "bad_header"),
        ({"headers": [("correlation_id", b"\xff")]}, "bad_header"),
        ({"headers": [("ce_id", str(UUID(int=1)).encode())], "value": message(id=str(UUID(int=2)))}, "invalid_request"),
    ],
)
async def test_what_would_be_refused_again_is_not_sent(
    database: Database, replays: Replays, log: Log, changes: dict[str, Any], reason: str
) -> None:
    """A letter that would be refused again gives the reason and stays as it is, in a replay by filter too."""
    (id,) = await kept(database, letter(**changes).because(ErrorCode.INTERNAL, ""))

    assert reason == await refusal(replays, id)
    told = await replays.send_all(ADMIN, ReplayDeadLetters(reason=ErrorCode.INTERNAL))

    assert (0, 1, None) == (told.replayed, told.skipped, told.next)
    assert [] == log.records
    assert (await replays.find(ADMIN, id)).summary.replayed_at is None


async def test_edited_it_is_sent(database: Database, replays: Replays, log: Log) -> None:
    """A letter whose value was fixed is sent under the id that it was known by."""
    (id,) = await kept(database, asked := letter(value=b"no json").because(ErrorCode.NOT_JSON, ""))
    await replays.edit(ADMIN, id, EditDeadLetter(value=GOOD.decode()))

    await replays.send(ADMIN, id)

    believed(log, "default", "", asked.request_id, b"key", GOOD)


async def test_the_id_in_the_body_is_kept(database: Database, replays: Replays, log: Log) -> None:
    """A body that names its id is sent under that id."""
    id = uuid4()
    (number,) = await kept(database, letter(value=(value := message(id=str(id)))).because(ErrorCode.INTERNAL, ""))

    await replays.send(ADMIN, number)

    believed(log, "default", "", id, b"key", value)


async def test_other_records_are_sent_too(database: Database, replays: Replays, log: Log) -> None:
    """A cancel whose record was fixed is sent as a cancel."""
    bad = letter(value=b"{}", headers=[("ce_type", CANCEL_REQUESTED.encode())]).because(ErrorCode.INVALID_REQUEST, "")
    (id,) = await kept(database, bad)
    value = f'{{"request_id": "{uuid4()}"}}'
    await replays.edit(ADMIN, id, EditDeadLetter(value=value))

    await replays.send(ADMIN, id)

    assert CANCEL_REQUESTED.encode() == believed(log, "default", "", bad.request_id, b"key", value.encode())["ce_type"]


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("case", ["unsigned", "forged", "another's body", "another's name", "other tenant", "bad form"])
async def test_what_nobody_vouches_for_is_never_sent(
    database: Database, replays: Replays, log: Log, case: str, *, edited: bool
) -> None:
    """A record that needs or claims a signature and has no valid one is never sent, edited or not."""
    good = signed()
    headers = dict(good.headers)
    letters = {
        "unsigned": letter(value=GOOD).because(ErrorCode.UNSIGNED, ""),
        "forged": signed(secret=OLD).because(ErrorCode.BAD_SIGNATURE, ""),
        "another's body": letter(value=message("other"), headers=good.headers).because(ErrorCode.BAD_SIGNATURE, ""),
        "another's name": letter(
            value=GOOD, key=b"key", headers=[*{**headers, "orchestra-user": b"bob"}.items()]
        ).because(ErrorCode.BAD_HEADER, ""),
        "other tenant": letter(value=GOOD, key=b"key", headers=signed("them").headers).because(
            ErrorCode.BAD_SIGNATURE, ""
        ),
        "bad form": letter(value=GOOD, headers=[("orchestra-signature", b"\xff")]).because(ErrorCode.BAD_HEADER, ""),
    }
    (id,) = await kept(database, letters[case])
    if edited:
        clean = EditDeadLetter.model_validate({"value": GOOD.decode(), "headers": []})
        await replays.edit(ADMIN, id, clean)

    assert ("unsigned" if case == "unsigned" else "bad_signature") == await refusal(replays, id)
    told = await replays.send_all(ADMIN, ReplayDeadLetters(topic="llm.requests"))

    assert (0, 1) == (told.replayed, told.skipped)
    assert [] == log.records


async def test_a_secret_that_was_missing_and_is_there_again(database: Database, log: Log) -> None:
    """A record that was refused only because its secret was unknown is sent once the secret is known."""
    asked = signed(secret=OLD).because(ErrorCode.BAD_SIGNATURE, "")
    (id,) = await kept(database, asked)
    secrets = [SECRET, OLD]

    await Replays(database, Acceptance(log, database, secrets, Metrics(), one_owner()), Judge(secrets)).send(ADMIN, id)  # type: ignore[arg-type]

    believed(log, "default", "ann", asked.request_id, b"key", GOOD)


async def test_what_was_taken_in_meanwhile(database: Database, replays: Replays, log: Log) -> None:
    """A letter is not sent under the id of a request with another body; with the same body it may be."""
    body = MessageRequested.model_validate_json(GOOD)
    same, other = request(body_hash=body.body_hash()), request(text="other")
    await take(database, same, other)
    letters = [letter(value=GOOD, request_id=each.id).because(ErrorCode.INTERNAL, "") for each in (same, other)]
    first, second = await kept(database, *letters)

    await replays.send(ADMIN, first)

    assert "idempotency_key_reused" == await refusal(replays, second)
    assert len(log.records) == 1


async def test_all_that_fit(database: Database, replays: Replays, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay by filter sends each matching letter once, oldest first, a bounded number per call, and no others."""
    monkeypatch.setattr("gateway.replays.MOST", 4)
    monkeypatch.setattr("gateway.replays._AT_ONCE", 2)
    asked = [letter(value=message(str(n))).because(ErrorCode.INTERNAL, "") for n in range(5)]
    asked[1] = letter(value=b"bad").because(ErrorCode.INTERNAL, "")
    theirs = letter(value=GOOD, tenant="them").because(ErrorCode.INTERNAL, "")
    await kept(database, *asked, theirs, letter(value=GOOD).because(ErrorCode.BAD_HEADER, ""))
    wanted = ReplayDeadLetters(reason=ErrorCode.INTERNAL)

    first = await replays.send_all(ADMIN, wanted)
    # A letter that arrives meanwhile, such as a replay that was refused again, is outside the range.
    await kept(database, letter(value=message("late")).because(ErrorCode.INTERNAL, ""))
    second = await replays.send_all(ADMIN, wanted.model_copy(update={"cursor": first.next}))

    assert (3, 1) == (first.replayed, first.skipped)
    assert (1, 0, None) == (second.replayed, second.skipped, second.next)
    assert [message(str(n)) for n in (0, 2, 3, 4)] == [value for _, value, _ in log.records]
    again = await replays.send_all(ADMIN, wanted)
    assert (1, 1, None) == (again.replayed, again.skipped, again.next)
    assert message("late") == log.records[-1][1]


async def test_what_was_sent_is_known_when_the_rest_was_not(database: Database, replays: Replays, log: Log) -> None:
    """When Kafka fails halfway the call fails, and the next one sends only the rest; a record too long is skipped."""
    await kept(database, *(letter(value=message(str(n))).because(ErrorCode.INTERNAL, "") for n in range(4)))
    log.errors = [None, OrchestraError(ErrorCode.TOO_LARGE), OrchestraError(ErrorCode.OUTCOME_UNKNOWN)]
    wanted = ReplayDeadLetters(reason=ErrorCode.INTERNAL)

    with pytest.raises(OrchestraError) as caught:
        await replays.send_all(ADMIN, wanted)
    assert caught.value.code is ErrorCode.OUTCOME_UNKNOWN
    told = await replays.send_all(ADMIN, wanted)

    assert (3, 0) == (told.replayed, told.skipped)
    assert [message(str(n)) for n in (0, 1, 2, 3)] == [value for _, value, _ in log.records]


async def test_a_filter_that_names_nothing_sends_nothing(replays: Replays) -> None:
    """A filter without fields is refused, because it would match every letter."""
    with pytest.raises(OrchestraError) as caught:
        await replays.send_all(ADMIN, ReplayDeadLetters())
    assert caught.value.code is ErrorCode.INVALID_REQUEST


async def test_another_tenants_letters_are_not_there(database: Database, replays: Replays, log: Log) -> None:
    """An admin of another tenant cannot find, edit or send our letters."""
    (id,) = await kept(database, letter(value=GOOD).because(ErrorCode.INTERNAL, ""))
    stranger = Principal("them", "admin", EVERYTHING)
    edit = EditDeadLetter(value="x")

    for doing in (replays.find(stranger, id), replays.edit(stranger, id, edit), replays.send(stranger, id)):
        with pytest.raises(OrchestraError) as caught:
            await doing
        assert caught.value.code is ErrorCode.NOT_FOUND
    told = await replays.send_all(stranger, ReplayDeadLetters(reason=ErrorCode.INTERNAL))
    assert (0, 0, []) == (told.replayed, told.skipped, log.records)
    assert (await dead_letters.page(database, "them", DeadLetterFilter(), None, 9, replayed=None)).data == []


async def test_who_did_it_is_in_the_audit(database: Database, replays: Replays) -> None:
    """An edit and a replay are audited with the credential, the letter and the request id, and nothing of its text."""
    asked = letter(value=CANARY.encode(), partition=3, offset=7).because(ErrorCode.NOT_JSON, "")
    (id,) = await kept(database, asked)
    edits, sends = (Author("default", ADMIN.actor, Action(f"dead_letter.{what}")) for what in ("edit", "replay"))

    with capture_logs() as logs:
        await replays.edit(ADMIN, id, EditDeadLetter(value=message(CANARY).decode()), edits)
        await replays.send(ADMIN, id, sends)

    sent, edited = (await audit.page(database, "default", AuditFilter(), None, 9)).data
    assert [("key:abc", f"dead-letters/{id}")] * 2 == [(each.actor, each.target) for each in (sent, edited)]
    assert ("dead_letter.edit", "dead_letter.replay") == (edited.action, sent.action)
    assert {"request_id": str(asked.request_id)} == sent.after
    assert ["changed"] * 2 == [line["event"] for line in logs]
    assert CANARY not in f"{logs}{sent}{edited}"


async def test_an_edit_names_what_it_changes(database: Database, replays: Replays) -> None:
    """Fields that an edit does not name stay as they are, edited before or not; null removes one without an error."""
    (id,) = await kept(database, letter(key=b"\xff", value=b"v", headers=[("a", b"b")]))

    async def edit(**wanted: Any) -> KeptLetter:
        return await replays.edit(ADMIN, id, EditDeadLetter.model_validate(wanted))

    first = await edit(value_base64="/w==")
    assert (b"\xff", b"\xff", [("a", b"b")]) == _parts(first)
    second = await edit(headers=[{"name": "c", "value": "d"}, {"name": "e"}], key=None)
    assert (None, b"\xff", [("c", b"d"), ("e", None)]) == _parts(second)
    assert (b"k", b"\xff", []) == _parts(await edit(headers=[], key="k"))
    with pytest.raises(OrchestraError) as caught:
        await edit()
    assert caught.value.code is ErrorCode.NOTHING_TO_CHANGE


def _parts(kept_letter: KeptLetter) -> tuple[bytes | None, bytes | None, RawHeaders]:
    sends = kept_letter.to_send
    return sends.key, sends.value, sends.headers


@pytest.mark.parametrize("kind", [MESSAGE_REQUESTED, CANCEL_REQUESTED, CONVERSATION_DELETE_REQUESTED])
async def test_a_replay_is_no_way_to_what_is_a_users(database: Database, replays: Replays, log: Log, kind: str) -> None:
    """An unsigned record that refers to a user's conversation or request is never signed by replaying it."""
    await take(database, hers := request(user="ann"))
    value = {
        MESSAGE_REQUESTED: GOOD,
        CANCEL_REQUESTED: f'{{"request_id": "{hers.id}"}}'.encode(),
        CONVERSATION_DELETE_REQUESTED: f'{{"conversation_id": "{hers.conversation_id}"}}'.encode(),
    }[kind]
    headers: RawHeaders = [("ce_type", kind.encode())]
    bad = letter(key=str(hers.conversation_id).encode(), value=value, headers=headers).because(ErrorCode.INTERNAL, "")
    (id,) = await kept(database, bad)

    assert "unsigned" == await refusal(replays, id)
    assert [] == log.records
