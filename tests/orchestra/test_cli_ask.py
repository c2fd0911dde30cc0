"""A message by the command line, against a gateway that follows a script."""

import asyncio
from collections.abc import Sequence

import pytest

from orchestra.cli.ask import Asking, CancelledTurnError, LostGatewayError, NoReplyError, Screen, Where, ask, submit
from tests.support.fake_gateway import (
    COMPLETED,
    CONVERSATION_ID,
    PENDING,
    REQUEST_ID,
    UNTIL_CANCELLED,
    Break,
    FakeGateway,
    Refusal,
    Step,
    delta,
    fake_gateway,
)
from tests.support.ports import free_port

STARTED = 'id: 1.0\nevent: started\ndata: {"attempt": 1}\n\n'
RESTART = 'id: 2.5\nevent: restart\ndata: {"attempt": 2, "text": "Hello"}\n\n'
HEL, LO = delta("Hel", 3), delta("lo", 5)
BODY = {"messages": [{"role": "user", "content": "Hello"}]}


class Shown:
    """What a person would have seen."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.notes: list[str] = []
        self.screen = Screen(self.pieces.append, lambda: self.pieces.append("|"), self.notes.append)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


async def told(script: Sequence[Step]) -> tuple[str, Shown, FakeGateway]:
    """The reply by this script, what was shown, and the gateway."""
    shown = Shown()
    async with fake_gateway(script) as gateway:
        reply = await Asking(Where(gateway.url), BODY, shown.screen).reply()
    return reply, shown, gateway


async def test_the_reply_is_shown_as_it_arrives() -> None:
    """Each piece of text is shown, and nothing else is; comments that keep a stream open are passed over."""
    reply, shown, _ = await told([PENDING + STARTED + HEL + ": a comment\n\n" + LO + COMPLETED])

    assert ("Hello", ["Hel", "lo"]) == (reply, shown.pieces)


@pytest.mark.parametrize(
    ("script", "pieces"),
    [
        ([PENDING + HEL + 'id: 2.2\nevent: restart\ndata: {"text": "Hi"}\n\n' + COMPLETED], ["Hel", "|", "Hi"]),
        ([PENDING + HEL + RESTART + COMPLETED], ["Hel", "lo"]),
        ([PENDING + HEL + 'event: completed\ndata: {"reply": "Hello"}\n\n'], ["Hel", "lo"]),
        ([PENDING + 'event: completed\ndata: {"reply": "Hello"}\n\n'], ["Hello"]),
    ],
)
async def test_a_text_that_does_not_go_on_begins_anew(script: list[Step], pieces: list[str]) -> None:
    """A restart shows what is new where the text goes on, and is told where it does not; the final text is whole."""
    reply, shown, _ = await told(script)

    assert pieces == shown.pieces
    assert reply == shown.text.rpartition("|")[2]


@pytest.mark.parametrize("cut", [Break, str], ids=["broken", "closed"])
async def test_a_broken_stream_is_gone_on_with(cut: type[Break] | type[str]) -> None:
    """After a break the stream goes on behind the last event that came: no text is lost, none comes twice."""
    reply, shown, gateway = await told([cut(PENDING + STARTED + HEL), cut(PENDING + LO), PENDING + COMPLETED])

    assert ("Hello", ["Hel", "lo"]) == (reply, shown.pieces)
    assert ["1.3", "1.5"] == gateway.last_ids
    assert [("POST", "/v1/messages")] + [("GET", f"/v1/requests/{REQUEST_ID}/events")] * 2 == gateway.calls


async def test_a_message_is_sent_under_one_key() -> None:
    """A POST that breaks before its id was told is sent again under the same key, so that it counts once."""
    shown = Shown()
    async with fake_gateway([Break(""), Refusal(503, "unavailable"), PENDING + HEL + COMPLETED]) as gateway:
        await Asking(Where(gateway.url), BODY, shown.screen, at_first=30).reply()

    assert (["Hel"], 3, 1) == (shown.pieces, len(gateway.keys), len(set(gateway.keys)))
    assert gateway.keys[0]


async def test_a_gateway_may_be_started_again() -> None:
    """While nobody answers on the port it is tried again, and the reply goes on when somebody does."""
    shown, port = Shown(), free_port()
    asking = Asking(Where(f"http://127.0.0.1:{port}"), BODY, shown.screen)
    async with fake_gateway([Break(PENDING + STARTED + HEL)], port):
        replying = asyncio.create_task(asking.reply())
        async with asyncio.timeout(20):
            while shown.pieces != ["Hel"]:
                await asyncio.sleep(0)
    async with asyncio.timeout(20):
        while not any("connect" in note.lower() for note in shown.notes):
            await asyncio.sleep(0)
    async with fake_gateway([PENDING + LO + COMPLETED], port) as second:
        assert await replying == "Hello"

    assert ["1.3"] == second.last_ids
    assert ["Hel", "lo"] == shown.pieces


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ([PENDING + 'event: failed\ndata: {"code": "auth", "detail": "no key"}\n\n'], r"no key \(auth\)"),
        ([PENDING + "event: expired\ndata: {}\n\n"], "expired"),
        ([PENDING + "event: cancelled\ndata: {}\n\n"], "was cancelled"),
        ([Refusal(422, "unknown_model", "No model has this name")], r"No model has this name \(unknown_model\)"),
        ([Refusal(503, "overloaded", "Too busy")], r"Too busy \(overloaded\)"),
        ([Break(PENDING + HEL), Refusal(404, "not_found")], "not_found"),
        ([PENDING + "event: delta\ndata: {}\n\n"], "no gateway would"),
        (["event: delta\ndata: nonsense\n\n"], "no gateway would"),
    ],
)
async def test_no_reply_is_an_error_that_tells_why(script: list[Step], why: str) -> None:
    """A request that ends in any other way, or is refused, is told with its detail."""
    with pytest.raises(NoReplyError, match=why):
        await told(script)


async def test_nobody_there_is_an_error() -> None:
    """A gateway out of reach is told with its address, at once."""
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(LostGatewayError, match=url):
        await ask(url, "Hello", lambda _: None)


async def test_a_gateway_that_stays_away_is_an_error() -> None:
    """A gateway that does not come back is given up after a while."""
    async with fake_gateway([Break(PENDING + HEL)]) as gateway:
        asking = Asking(Where(gateway.url), BODY, Shown().screen, patience=0.01)
        gateway.script += [Break("")] * 3
        with pytest.raises(LostGatewayError, match=gateway.url):
            await asking.reply()


async def test_an_answer_can_be_cancelled() -> None:
    """A cancel is sent once the request's id is known, and the reply ends as cancelled."""
    script = [PENDING + HEL + UNTIL_CANCELLED + "event: cancelled\ndata: {}\n\n"]
    async with fake_gateway(script) as gateway:
        asking = Asking(Where(gateway.url, "a key"), BODY, Shown().screen)
        asking.cancel()
        with pytest.raises(CancelledTurnError):
            await asking.reply()

    assert ("POST", f"/v1/requests/{REQUEST_ID}/cancel") in gateway.calls
    assert {"Bearer a key"} == set(gateway.authorizations)
    assert (REQUEST_ID, CONVERSATION_ID) == (asking.request_id, asking.conversation_id)


async def test_a_message_can_be_left_alone() -> None:
    """Without waiting, the request's id is what comes back."""
    async with fake_gateway([]) as gateway:
        assert REQUEST_ID == await submit(Where(gateway.url), BODY)

    assert [BODY] == gateway.bodies
