import asyncio
import dataclasses
import re
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from gateway.accept import Acceptance
from gateway.metrics import Metrics
from gateway.owner_turns import OwnerTurns
from gateway.people.principal import nameless
from gateway.submission import Submission, trace
from orchestra.signing import ChangeSigner, Signer
from orchestra.store.audit import Author
from schemas.api.audit import Action
from schemas.api.messages import PostMessage
from schemas.changes import Change
from schemas.envelope import read_headers
from schemas.requests import CANCEL_REQUESTED, MessageRequested
from schemas.status import Status
from tests.support.fakes import steps
from tests.support.people import one_owner

SECRETS = [b"x" * 32]
SIGNER = Signer(SECRETS)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
bodies = st.builds(
    PostMessage,
    conversation_id=st.none() | st.uuids(),
    messages=st.lists(
        st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": texts}),
        min_size=1,
        max_size=3,
    ),
    model=st.none() | texts.filter(bool),
    context=st.sampled_from([None, "auto", "given", "stored"]),
    stream=st.sampled_from([None, True, False]),
    priority=st.none() | st.integers(0, 9),
    deadline=st.none() | st.datetimes(),
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1, exclude_min=True),
    stop=st.none() | st.lists(texts.filter(bool), max_size=3),
    metadata=st.none() | st.dictionaries(texts.filter(bool), texts, max_size=3),
)


class Log:
    """Keeps what would be written."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes, list[tuple[str, str]]]] = []

    async def write(self, key: bytes, value: bytes, headers: Any) -> None:
        self.records.append((key, value, headers))


@given(bodies, st.booleans())
async def test_message(body: PostMessage, caller_waits: bool) -> None:
    """A worker reads exactly the body that was hashed, and can verify its sender."""
    log = Log()
    ask = Submission(nameless(), uuid4(), body, body.body_hash(), trace(None), caller_waits)
    await Acceptance(log, None, SECRETS, Metrics(), one_owner()).message(ask)  # type: ignore[arg-type]
    ((key, value, headers),) = log.records
    read = MessageRequested.model_validate_json(value)
    assert read.body_hash() == ask.body_hash
    assert key == str(ask.conversation_id).encode()
    envelope = read_headers([(name, text.encode()) for name, text in headers])
    assert (envelope.id, envelope.tenant, envelope.user, envelope.caller_waits) == (ask.id, "default", "", caller_waits)
    assert envelope.deadline == body.deadline
    assert SIGNER.verify(
        envelope.signature or "",
        id=str(ask.id),
        type=envelope.type or "",
        tenant="default",
        user="",
        key=key,
        value=value,
    )


async def test_cancel() -> None:
    """A cancel goes to its request's partition, and is an event with its own id."""
    log, request, conversation = Log(), uuid4(), uuid4()
    await Acceptance(log, None, SECRETS, Metrics(), one_owner()).cancel(nameless(), request, conversation)  # type: ignore[arg-type]
    ((key, value, headers),) = log.records
    assert key.decode() == str(conversation)
    assert value.decode() == f'{{"request_id":"{request}"}}'
    assert dict(headers)["ce_type"] == CANCEL_REQUESTED
    assert dict(headers)["ce_id"] != str(request)


async def test_a_change_has_the_time_at_which_it_was_made() -> None:
    """It is signed next to the record, because a worker may read that much later."""
    log, request = Log(), uuid4()
    change = Author("default", "key:k", Action.REQUEST_CANCEL).cancel(request, Status.PENDING)
    begun = datetime.now(UTC)

    await Acceptance(log, None, SECRETS, Metrics(), one_owner()).cancel(nameless(), request, uuid4(), change)  # type: ignore[arg-type]

    envelope = read_headers([(name, text.encode()) for name, text in log.records[0][2]])
    told = Change.model_validate_json(ChangeSigner(SECRETS).read(envelope.change, envelope.signature or "") or "")
    assert change == told.model_copy(update={"at": None})
    assert told.at
    assert begun <= told.at <= datetime.now(UTC)


def test_trace() -> None:
    """A valid traceparent is passed on; anything else is replaced by a new one."""
    good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert trace(good) == good
    for bad in (None, "", "x", good.upper(), f"ff{good[2:]}", f"00-{'0' * 32}{good[35:]}", f"{good}-more"):
        assert trace(bad) != bad
        assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", trace(bad))


class HeldLog(Log):
    """Acknowledges nothing until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()

    async def write(self, key: bytes, value: bytes, headers: Any) -> None:
        """Keep the record."""
        await super().write(key, value, headers)
        await self.released.wait()


async def test_one_owner_has_a_few_records_on_their_way_and_others_are_not_behind_them() -> None:
    """One owner's flood waits its turn and is accepted in full; another owner's message goes at once."""
    log = HeldLog()
    acceptance = Acceptance(log, None, SECRETS, Metrics(), OwnerTurns(2, max_waiting=100, max_seconds=60))  # type: ignore[arg-type]
    body = PostMessage(messages=[{"role": "user", "content": "Hello"}])

    def send(user: str) -> Coroutine[Any, Any, None]:
        caller = dataclasses.replace(nameless(), user=user)
        return acceptance.message(Submission(caller, uuid4(), body, body.body_hash(), trace(None), caller_waits=False))

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(send("key:flood"))
        await steps()
        assert 2 == len(log.records)
        group.create_task(send("key:another"))
        await steps()
        assert 3 == len(log.records)
        log.released.set()

    assert 21 == len(log.records)
