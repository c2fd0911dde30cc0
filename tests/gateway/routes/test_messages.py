"""Promises of gateway/routes/messages.py about what a caller asks for; how it is answered is in tests/pipeline."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import pytest

from benchmarks.guard.ends import Away, Consumer, Producer, Record, Settle
from benchmarks.guard.path import Tally
from gateway.app import create_app
from gateway.routes.messages import read_message
from gateway.settings import GatewaySettings
from schemas import envelope, events
from schemas.api.messages import PostMessage
from schemas.errors import ErrorCode, OrchestraError
from tests.support.events import SIGNER, sign

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
IN_VAIN: dict[str, Any] = {**HELLO, "colour": "blue", "store": True, "n": 1, "x y": 1}
WARNINGS = ["colour", "store", "other"]
APP = "https://app.example"
USAGE = {"input_tokens": 1, "output_tokens": 1}


@dataclass
class World:
    """A gateway, and the Kafka ends that it writes to and reads from."""

    client: httpx.AsyncClient
    producer: Producer
    consumer: Consumer
    tally: Tally

    async def post(self, body: dict[str, Any], **headers: str) -> httpx.Response:
        """The response to a POST whose request completes as soon as it is accepted."""
        posting = asyncio.ensure_future(self.client.post("/v1/messages", json=body, headers=headers))
        accepted = asyncio.ensure_future(self.producer.until(self.tally.records + 1))
        await asyncio.wait([posting, accepted], return_when=asyncio.FIRST_COMPLETED)
        if not posting.done():
            await Settle()
            body_hash = PostMessage.model_validate(body).body_hash()
            self._complete((self.producer.last[envelope.ID] or b"").decode(), body_hash)
        accepted.cancel()
        return await posting

    def _complete(self, id: str, body_hash: str) -> None:
        extra = ((envelope.TENANT, envelope.DEFAULT_TENANT), (envelope.BODY_HASH, body_hash))
        headers = envelope.write_headers(id=id, type=events.COMPLETED, source="/workers", subject=id, extra=extra)
        value = orjson.dumps({"attempt": 1, "reply": "echo: hi", "usage": USAGE})
        raw = sign(SIGNER, [(name, text.encode()) for name, text in headers], value)
        self.consumer.queue.put_nowait(Record(id.encode(), value, [*raw]))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    settings = GatewaySettings.model_validate({"orchestra_secret": "s" * 32, "cors_origins": APP, "max_priority": 7})
    tally, consumer = Tally(), Consumer()
    producer = Producer(tally)
    app = create_app(
        settings, database=Away.connect(settings, "test"), producer=producer.opened, consumer=consumer.opened
    )
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        await Settle()
        yield World(client, producer, consumer, tally)


async def test_a_reply_names_what_was_ignored(world: World) -> None:
    """A reply lists the fields that were ignored, and has no such list when there are none."""
    warned, plain = await world.post(IN_VAIN), await world.post(HELLO)

    assert (200, "echo: hi", WARNINGS) == (warned.status_code, warned.json()["reply"], warned.json()["warnings"])
    assert "warnings" not in plain.json()


async def test_a_202_names_what_was_ignored(world: World) -> None:
    """A 202 lists the same ignored fields as a reply, and the record on Kafka does not contain them."""
    warned = await world.post(IN_VAIN, Prefer="respond-async")
    plain = await world.post(HELLO, Prefer="respond-async")

    assert (202, WARNINGS) == (warned.status_code, warned.json()["warnings"])
    assert "warnings" not in plain.json()
    sent = world.tally.bytes
    await world.post(IN_VAIN, Prefer="respond-async")
    with_warnings = world.tally.bytes - sent
    await world.post(HELLO, Prefer="respond-async")
    assert with_warnings == world.tally.bytes - sent - with_warnings


async def test_a_stream_names_what_was_ignored_at_its_beginning(world: World) -> None:
    """A stream lists the ignored fields in its event `pending`, and in no other."""
    warned = await world.post({**IN_VAIN, "stream": True})
    plain = await world.post({**HELLO, "stream": True})

    pending, *rest = [orjson.loads(line[6:]) for line in warned.text.splitlines() if line.startswith("data: ")]
    assert WARNINGS == pending["warnings"]
    assert "warnings" not in str(rest) + plain.text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_listed_web_page_may_read_it(world: World, stream: bool) -> None:
    """A page of a listed origin may read the reply and, from its first byte, a stream; no cache keeps either."""
    answer = await world.post({**HELLO, "stream": stream}, Origin=APP)

    assert (200, APP) == (answer.status_code, answer.headers["access-control-allow-origin"])
    assert stream == answer.headers["content-type"].startswith("text/event-stream")
    assert ("no-store", "nosniff") == (answer.headers["cache-control"], answer.headers["x-content-type-options"])


@pytest.mark.parametrize("preference", [{}, {"Prefer": "respond-async"}, {"Accept": "text/event-stream"}], ids=str)
async def test_what_is_not_supported_is_never_accepted(world: World, preference: dict[str, str]) -> None:
    """A field that is not supported is 422 for every way of answering, and no record is written."""
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    for body, code, detail in (
        ({**HELLO, "functions": [1]}, "not_supported", "functions: not supported yet"),
        (
            {**HELLO, "response_format": {"type": "xml"}},
            "unsupported_option",
            "response_format: this type is not supported",
        ),
        (
            {"messages": [{"role": "user", "content": [image]}]},
            "unsupported_part",
            "messages.0.content.0.image_url.url: must be a data: URL; others are not fetched",
        ),
    ):
        answer = await world.post(body, **preference)
        assert (422, code, detail) == (answer.status_code, answer.json()["code"], answer.json()["detail"])
    assert 0 == world.tally.records


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", ErrorCode.NOT_JSON),
        (b"[]", ErrorCode.INVALID_REQUEST),
        (b'{"messages": [], "tools": []}', ErrorCode.INVALID_REQUEST),
        (b'{"messages": [], "functions": [1]}', ErrorCode.NOT_SUPPORTED),
        (b'{"messages": [{"role": "robot", "content": "x"}]}', ErrorCode.INVALID_REQUEST),
        (b'{"messages": [{"role": "function", "content": "x"}]}', ErrorCode.NOT_SUPPORTED),
        (b'{"messages": [{"role": "user", "content": [{"type": "x"}]}], "n": 2}', ErrorCode.NOT_SUPPORTED),
        (b'{"messages": [{"role": "user", "content": [{"type": "x"}]}]}', ErrorCode.UNSUPPORTED_PART),
        (b'{"input": "x"}', ErrorCode.NOT_SUPPORTED),
    ],
)
def test_the_better_reason(body: bytes, code: ErrorCode) -> None:
    """A body that is invalid only because of an unsupported field gets the error about that field."""
    with pytest.raises(OrchestraError) as caught:
        read_message(body)

    assert code is caught.value.code


@pytest.mark.parametrize("sent", [{}, {"max_tokens": 5}, {"max_tokens": None}])
def test_max_completion_tokens_is_max_tokens(sent: dict[str, Any]) -> None:
    """`max_completion_tokens` means `max_tokens` and makes the same body, so both match one Idempotency-Key."""
    plain, _ = read_message(orjson.dumps({**HELLO, "max_tokens": 5}))
    newer, warnings = read_message(orjson.dumps({**HELLO, **sent, "max_completion_tokens": 5}))

    assert (5, plain.body_hash(), []) == (newer.max_tokens, newer.body_hash(), list(warnings))


def test_max_completion_tokens_of_nothing() -> None:
    """Null means absent, under either name."""
    body, warnings = read_message(orjson.dumps({**HELLO, "max_tokens": 5, "max_completion_tokens": None}))

    assert (5, []) == (body.max_tokens, list(warnings))


@pytest.mark.parametrize(
    "sent",
    [{"max_tokens": 5, "max_completion_tokens": 6}, {"max_completion_tokens": 0}, {"max_completion_tokens": "5"}],
)
def test_a_bad_limit_is_refused_under_either_name(sent: dict[str, Any]) -> None:
    """Two different limits, or an invalid one, are refused."""
    with pytest.raises(OrchestraError) as caught:
        read_message(orjson.dumps({**HELLO, **sent}))

    assert ErrorCode.INVALID_REQUEST is caught.value.code
    assert "max_" in caught.value.detail


async def test_a_priority_above_the_highest_is_lowered_with_a_warning(world: World) -> None:
    """A priority within the caller's limit is accepted without a warning; a higher one is lowered with a warning."""
    later = {"Prefer": "respond-async"}

    high, highest = [(await world.post({**HELLO, "priority": each}, **later)).json() for each in (7, 9)]

    assert ([], ["priority"]) == (high.get("warnings", []), highest["warnings"])
