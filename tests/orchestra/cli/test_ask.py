"""A message by the command line, against a gateway that follows a script."""

import asyncio
import json
from collections.abc import Sequence

import pytest
from aiohttp import web

from orchestra.cli.ask import ReplyWaiter, Where
from orchestra.cli.terminal import Screen
from orchestra.client import ClientError, UnreachableError
from orchestra.transcript import Piece
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


class Shown(Screen):
    """What a person would have seen."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.notes: list[str] = []

    def show(self, piece: Piece) -> None:
        self.pieces.append(f"<{piece.name}>" if piece.kind == "tool_call" else piece.text)

    def restart(self) -> None:
        self.pieces.append("|")

    def note(self, text: str) -> None:
        self.notes.append(text)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def submit(where: Where) -> str:
    """The id of a message that is not waited for."""
    with where.client() as client:
        return str(client.messages.submit(BODY["messages"]).id)


async def told(script: Sequence[Step]) -> tuple[str, Shown, FakeGateway]:
    """The reply by this script, what was shown, and the gateway."""
    shown = Shown()
    async with fake_gateway(script) as gateway:
        reply = await ReplyWaiter(Where(gateway.url), BODY, shown).reply()
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
async def test_a_text_that_does_not_go_on_starts_again(script: list[Step], pieces: list[str]) -> None:
    """A restart shows only new text where it continues the old, and a notice where not; the final text is whole."""
    reply, shown, _ = await told(script)

    assert pieces == shown.pieces
    assert reply == shown.text.rpartition("|")[2]


HEAD = 'id: 1.0-1\nevent: tool_call\ndata: {"index": 0, "call_id": "c", "name": "f"}\n\n'
ARGUMENTS = 'id: 1.0-3\nevent: tool_call.delta\ndata: {"index": 0, "arguments": "{}"}\n\n'
REFUSAL = 'id: 1.0-5\nevent: refusal.delta\ndata: {"text": "No"}\n\n'
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
NO = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]}


def ending(*items: object) -> str:
    """An ending with these items."""
    return f"event: completed\ndata: {json.dumps({'reply': '', 'usage': None, 'output': items})}\n\n"


async def test_all_of_a_reply_is_shown() -> None:
    """Tool calls, reasoning and refusals are shown as they come, and the reply is its text alone."""
    reasoning = 'event: reasoning.delta\ndata: {"text": "Hm"}\n\n'
    reply, shown, _ = await told([PENDING + STARTED + reasoning + HEL + HEAD + ARGUMENTS + REFUSAL + COMPLETED])

    assert ("Hel", ["Hm", "Hel", "<f>", "{}", "No"]) == (reply, shown.pieces)


@pytest.mark.parametrize(
    ("script", "pieces"),
    [
        ([PENDING + HEAD + ARGUMENTS + ending(CALL, NO)], ["<f>", "{}", "No"]),
        ([PENDING + ending(CALL)], ["<f>", "{}"]),
        ([PENDING + HEAD + ARGUMENTS + ending(NO)], ["<f>", "{}", "|", "No"]),
        ([PENDING + HEL + HEAD + RESTART + COMPLETED], ["Hel", "<f>", "|", "Hello"]),
        ([Break(PENDING + HEAD), PENDING + ARGUMENTS + ending(CALL)], ["<f>", "{}"]),
    ],
)
async def test_an_answer_that_does_not_go_on_starts_again(script: list[Step], pieces: list[str]) -> None:
    """What an event has of the whole answer is shown where it continues what was shown, and again where not."""
    _, shown, _ = await told(script)

    assert pieces == shown.pieces


@pytest.mark.parametrize("cut", [Break, str], ids=["broken", "closed"])
async def test_a_broken_stream_is_gone_on_with(cut: type[Break] | type[str]) -> None:
    """After a break the stream goes on behind the last event that came: no text is lost, none comes twice."""
    reply, shown, gateway = await told([cut(PENDING + STARTED + HEL), cut(PENDING + LO), PENDING + COMPLETED])

    assert ("Hello", ["Hel", "lo"]) == (reply, shown.pieces)
    assert ["1.3", "1.5"] == gateway.last_ids
    assert [("POST", "/v1/messages")] + [("GET", f"/v1/requests/{REQUEST_ID}/events")] * 2 == gateway.calls


async def test_a_message_is_sent_under_one_key() -> None:
    """A POST that breaks before its id arrived is sent again under the same key, so that it counts once."""
    shown = Shown()
    async with fake_gateway([Break(""), Refusal(503, "unavailable"), PENDING + HEL + COMPLETED]) as gateway:
        await ReplyWaiter(Where(gateway.url), BODY, shown, at_first=30).reply()

    assert (["Hel"], 3, 1) == (shown.pieces, len(gateway.keys), len(set(gateway.keys)))
    assert gateway.keys[0]


async def test_a_gateway_may_be_started_again() -> None:
    """While the port is closed the call is retried, and the reply goes on once there is a server again."""
    shown, port = Shown(), free_port()
    asking = ReplyWaiter(Where(f"http://127.0.0.1:{port}"), BODY, shown)
    async with fake_gateway([Break(PENDING + STARTED + HEL)], port):
        replying = asyncio.create_task(asking.reply())
        async with asyncio.timeout(20):
            while shown.pieces != ["Hel"]:
                await asyncio.sleep(0)
    async with asyncio.timeout(20):
        while not shown.notes:
            await asyncio.sleep(0)
    async with fake_gateway([PENDING + LO + COMPLETED], port) as second:
        assert await replying == "Hello"

    assert ["1.3"] == second.last_ids
    assert ["Hel", "lo"] == shown.pieces
    assert ["the gateway is back"] == shown.notes[1:]


async def test_a_gateway_that_is_away_is_told_once() -> None:
    """However often it is tried, that a gateway is away is one note, and that it is back another."""
    shown, away = Shown(), [Refusal(503, "unavailable")] * 3
    async with fake_gateway([*away, PENDING + HEL + COMPLETED]) as gateway:
        await ReplyWaiter(Where(gateway.url), BODY, shown, at_first=30).reply()

    assert ["(unavailable); trying again", "the gateway is back"] == shown.notes


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ([PENDING + 'event: failed\ndata: {"code": "auth", "detail": "no key"}\n\n'], r"no key \(auth\)"),
        ([PENDING + "event: expired\ndata: {}\n\n"], "expired"),
        ([PENDING + "event: cancelled\ndata: {}\n\n"], "was cancelled"),
        ([Refusal(422, "unknown_model", "No model has this name")], r"No model has this name \(unknown_model\)"),
        ([Refusal(503, "overloaded", "Too busy")], r"Too busy \(overloaded\)"),
        ([Break(PENDING + HEL), Refusal(404, "not_found")], "not_found"),
        ([PENDING + "event: delta\ndata: {}\n\n"], "did not answer like a gateway"),
        (["event: delta\ndata: nonsense\n\n"], "did not answer like a gateway"),
        *(
            (["event: " + name + "\ndata: []\n\n"], "did not answer like a gateway")
            for name in ("pending", "restart", "completed", "tool_call", "tool_call.delta", "reasoning.delta")
        ),
        *((['event: completed\ndata: {"output": ' + output + "}\n\n"], "like a gateway") for output in ("7", "[{}]")),
    ],
)
async def test_no_reply_is_an_error_that_tells_why(script: list[Step], why: str) -> None:
    """A request that ends in any other way, or is refused, is reported with its detail."""
    with pytest.raises(ClientError, match=why):
        await told(script)


@pytest.mark.parametrize("where", ["show", "restart", "note"])
async def test_a_fault_of_ours_is_not_the_gateways(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """An error in our own code while a reply is shown is not reported as an answer of no gateway."""

    def broken(*_: object) -> None:
        raise ValueError("ours")

    monkeypatch.setattr(Shown, where, broken)
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - a group, in which the error is
        await told(
            [PENDING + HEL + 'event: restart\ndata: {"text": "Hi", "last_error": {"code": "a", "detail": "b"}}\n\n']
        )

    assert "did not answer like a gateway" not in str(caught.value)
    assert caught.group_contains(ValueError, match="ours")


async def test_why_an_attempt_failed_is_told() -> None:
    """The error of the last attempt is shown once while the next one runs, and again only for another reason."""
    refused, busy = [f'"last_error": {{"code": "{code}", "detail": "No."}}' for code in ("auth", "rate_limited")]
    again = [f'event: restart\ndata: {{"text": "", {error}}}\n\n' for error in (refused, refused, busy)]
    pending = PENDING.replace("}", f", {refused}}}")
    _, shown, _ = await told([pending + "".join(again) + HEL + LO + COMPLETED])

    assert ["auth: No.; trying again", "rate_limited: No.; trying again"] == shown.notes


@pytest.mark.parametrize(("reason", "notes"), [("length", ["cut at max_tokens"]), ("stop", []), (None, [])])
async def test_a_reply_that_was_cut_is_told_as_such(reason: str | None, notes: list[str]) -> None:
    """A reply that ended at the limit of tokens comes with a remark; one that ended by itself does not."""
    completed = COMPLETED.replace("}", f', "finish_reason": {json.dumps(reason)}}}')
    reply, shown, _ = await told([PENDING + HEL + completed])

    assert ("Hel", notes) == (reply, shown.notes)


@pytest.mark.parametrize("body", ["<html>", "[]", "{}", '{"request_id": 7}'])
async def test_what_is_no_gateway_is_told(body: str) -> None:
    """A server that accepts the message and answers something else is reported, with waiting and without."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body)

    app = web.Application()
    app.router.add_post("/v1/messages", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    where = Where(f"http://127.0.0.1:{port}")
    try:
        with pytest.raises(ClientError, match="did not answer like a gateway"):
            await asyncio.to_thread(submit, where)
        with pytest.raises(ClientError, match="is not a gateway"):
            await ReplyWaiter(where, BODY, Shown()).reply()
    finally:
        await runner.cleanup()


async def test_nobody_there_is_an_error() -> None:
    """An unreachable gateway is reported at once, with its address."""
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UnreachableError, match=url):
        await ReplyWaiter(Where(url), BODY, Shown()).reply()


async def test_a_gateway_that_stays_away_is_an_error() -> None:
    """A gateway that does not come back is given up after a while."""
    async with fake_gateway([Break(PENDING + HEL)]) as gateway:
        asking = ReplyWaiter(Where(gateway.url), BODY, Shown(), patience=0.01)
        gateway.script += [Break("")] * 3
        with pytest.raises(UnreachableError, match=gateway.url):
            await asking.reply()


async def test_an_answer_can_be_cancelled() -> None:
    """A cancel is sent once the request's id is known, and the reply ends as cancelled."""
    script = [PENDING + HEL + UNTIL_CANCELLED + "event: cancelled\ndata: {}\n\n"]
    async with fake_gateway(script) as gateway:
        asking = ReplyWaiter(Where(gateway.url, "a key"), BODY, Shown())
        asking.cancel()
        with pytest.raises(ClientError, match="cancelled"):
            await asking.reply()

    assert ("POST", f"/v1/requests/{REQUEST_ID}/cancel") in gateway.calls
    assert {"Bearer a key"} == set(gateway.authorizations)
    assert (REQUEST_ID, CONVERSATION_ID) == (asking.request_id, asking.conversation_id)


async def test_a_message_can_be_left_alone() -> None:
    """Without waiting, the request's id is what comes back."""
    async with fake_gateway([]) as gateway:
        assert REQUEST_ID == await asyncio.to_thread(submit, Where(gateway.url))

    assert [BODY] == gateway.bodies
