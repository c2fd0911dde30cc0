"""Streams of the client: nothing is lost and nothing comes twice, wherever a connection breaks."""

import asyncio
import json
import re
from typing import Any

import httpx
import pytest

from orchestra.client import ClientError, RequestFailedError, UnreachableError
from orchestra.client.events import (
    CompletedEvent,
    DeltaEvent,
    Event,
    FailedEvent,
    PendingEvent,
    RestartEvent,
    StartedEvent,
    ToolCallDeltaEvent,
    ToolCallEvent,
)
from orchestra.client.stream import AsyncStream
from tests.support.fake_gateway import CONVERSATION_ID, PENDING, REQUEST_ID, delta
from tests.support.scripted_http import Clock, Network, events, ok, problem

STARTED = 'id: 1.0\nevent: started\ndata: {"attempt": 1}\n\n'
HEL, LO = delta("Hel", 3), delta("lö", 5)
HEAD = 'id: 1.5-6\nevent: tool_call\ndata: {"index": 0, "call_id": "c", "name": "f"}\n\n'
ARGUMENTS = 'id: 1.5-8\nevent: tool_call.delta\ndata: {"index": 0, "arguments": "{}"}\n\n'
OUTPUT = [
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hellö"}]},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
]
COMPLETED = (
    "id: 1.5-8.end\nevent: completed\n"
    f"data: {json.dumps({'reply': 'Hellö', 'usage': None, 'finish_reason': 'tool_calls', 'output': OUTPUT})}\n\n"
)
PIECES = [STARTED, HEL, LO, HEAD, ARGUMENTS, COMPLETED]
WHOLE = PENDING + "".join(PIECES)
EVENTS = [PendingEvent, StartedEvent, DeltaEvent, DeltaEvent, ToolCallEvent, ToolCallDeltaEvent, CompletedEvent]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock().install(monkeypatch)


def rest_of(request: httpx.Request) -> str:
    """What a gateway sends of the answer above to a client that resumes."""
    last = request.headers.get("last-event-id")
    ids = [re.search(r"id: (.*)\n", piece) for piece in PIECES]
    place = next((number for number, id in enumerate(ids, 1) if id and id[1] == last), 0)
    return PENDING + "".join(PIECES[place:])


async def read(stream: AsyncStream) -> list[Event]:
    async with stream:
        return [event async for event in stream]


async def test_the_events_of_a_request() -> None:
    """Each event comes as an object, the ending last, and the stream knows the answer and whose it is."""
    network = Network([events(WHOLE)])
    stream = network.client().messages.stream("Hi", model="m")
    found = await read(stream)

    assert EVENTS == [type(event) for event in found]
    assert [None, "1.0", "1.3", "1.5", "1.5-6", "1.5-8", "1.5-8.end"] == [event.id for event in found]
    assert ("Hellö", REQUEST_ID, CONVERSATION_ID) == (stream.text, str(stream.request_id), str(stream.conversation_id))
    assert {"messages": [{"role": "user", "content": "Hi"}], "model": "m"} == json.loads(network.bodies[0])
    assert stream.ending == found[-1]


@pytest.mark.parametrize("located", [False, True], ids=["by-its-event", "by-its-head"])
async def test_a_stream_goes_on_wherever_it_breaks(located: bool) -> None:
    """Whichever byte is the last one of a connection, the same events come once each, at any gateway."""
    headers = {"location": f"/v1/requests/{REQUEST_ID}"} if located else {}
    whole = await read(Network([events(WHOLE)]).client().messages.stream("Hi"))
    for cut in range(len(PENDING if located else WHOLE.encode())):

        def answer(request: httpx.Request, cut: int = cut) -> httpx.Response:
            first = request.url.host == "one"
            text = WHOLE if request.method == "POST" else rest_of(request)
            return events(text, cut if first else None, **headers)

        network = Network(answer)
        found = await read(network.client(["http://one", "http://two"]).messages.stream("Hi"))
        with Network(answer).blocking(["http://one", "http://two"]).messages.stream("Hi") as stream:
            blocking = list(stream)

        assert whole == found == blocking, cut
        assert {"one", "two"} == {call.url.host for call in network.calls}
        sent = {call.headers["idempotency-key"] for call in network.calls if call.method == "POST"}
        assert len(sent) == 1


async def test_a_stream_that_breaks_leaves_only_its_own_gateway() -> None:
    """If other calls have left a stream's gateway already, the stream resumes where they are, when it breaks."""

    def answer(request: httpx.Request) -> httpx.Response | Exception:
        if request.url.path.endswith("/events"):
            return events(rest_of(request))
        if request.method == "POST":
            return events(WHOLE, len(PENDING + STARTED))
        if request.url.host == "one":
            return httpx.ConnectError("refused")
        return ok({"id": REQUEST_ID, "status": "pending"})

    network = Network(answer)
    client = network.client(["http://one", "http://two"])
    async with client.messages.stream("Hi") as stream:
        first = await anext(stream)
        await client.requests.get(REQUEST_ID)
        rest = [event async for event in stream]

    assert EVENTS == [type(event) for event in [first, *rest]]
    assert ["one", "one", "two", "two"] == [call.url.host for call in network.calls]


async def test_several_breaks_in_a_row() -> None:
    """A stream that breaks after each event, and now and then cannot be opened, is whole in the end."""

    def answer(request: httpx.Request) -> httpx.Response | Exception:
        if len(network.calls) % 3 == 0:
            return httpx.ConnectError("no")
        text = WHOLE if request.method == "POST" else rest_of(request)
        following = text[len(PENDING) :].partition("\n\n")
        return events(PENDING + following[0] + following[1])

    network = Network(answer)

    assert EVENTS == [type(event) for event in await read(network.client().messages.stream("Hi"))]


async def test_a_restart_is_an_event() -> None:
    """Where a gateway cannot continue an answer, the caller sees so, and the text is the new one."""
    error = {"code": "timeout", "detail": "slow"}
    data = json.dumps({"attempt": 2, "text": "Hi", "last_error": error})
    restart = f"id: 2.2\nevent: restart\ndata: {data}\n\n"
    stream = (
        Network([events(PENDING + STARTED + HEL), events(PENDING + restart + COMPLETED)]).client().messages.stream("x")
    )
    texts = [(type(event), stream.text) async for event in stream]

    assert [(DeltaEvent, "Hel"), (RestartEvent, "Hi"), (CompletedEvent, "Hellö")] == texts[2:]


async def test_a_stream_behind_the_ending_is_empty() -> None:
    """A stream that is opened with the id of the ending has no events, and is no failure."""
    network = Network([httpx.Response(204)])

    assert [] == await read(network.client().requests.stream(REQUEST_ID, last_event_id="1.5-8.end"))
    assert 1 == len(network.calls)


async def test_what_is_unknown_is_passed_over() -> None:
    """Events and fields that the client does not know are ignored, but their ids count."""
    strange = "id: 1.4\nevent: news\ndata: [7]\n\n"
    more = 'id: 1.5\nevent: delta\ndata: {"text": "lo", "more": 1}\n\n'
    network = Network([events(PENDING + HEL + strange), events(PENDING + more + COMPLETED)])
    found = await read(network.client().messages.stream("Hi"))

    assert [PendingEvent, DeltaEvent, DeltaEvent, CompletedEvent] == [type(event) for event in found]
    assert "1.4" == network.calls[1].headers["last-event-id"]


async def test_a_gateway_that_shuts_down_is_left() -> None:
    """The pause is the one that the gateway asks for, and the next connection is to another one."""
    hint = PENDING + "retry: 500\n\n"
    network = Network([events(hint), events(rest_of(httpx.Request("GET", "http://x")))])
    pauses: list[float] = []
    client = network.client(["http://one", "http://two"], on_retry=lambda _, pause: pauses.append(pause))
    await read(client.messages.stream("Hi"))

    assert ([0.5], ["one", "two"]) == (pauses, [call.url.host for call in network.calls])


async def test_the_reply_of_a_stream() -> None:
    """The answer of a stream that was read to its end is that of a call that waits."""
    network = Network(lambda request: events(WHOLE if request.method == "POST" else rest_of(request)))
    reply = await network.client().messages.stream("Hi").reply()
    with network.blocking().requests.stream(REQUEST_ID) as stream:
        assert reply == stream.reply()

    assert ("Hellö", OUTPUT, "tool_calls") == (reply.reply, reply.output, reply.finish_reason)


@pytest.mark.parametrize(
    ("name", "data", "code", "retryable"),
    [
        ("failed", {"code": "timeout", "detail": "slow"}, "timeout", True),
        ("failed", {"code": "of_tomorrow", "detail": "?"}, "of_tomorrow", False),
        ("cancelled", {}, "cancelled", False),
        ("expired", {}, "expired", True),
    ],
)
async def test_a_request_without_an_answer(name: str, data: Any, code: str, retryable: bool) -> None:
    """Its ending is an event, and an error for a caller that wants the reply."""
    ending = f"event: {name}\ndata: {json.dumps(data)}\n\n"
    stream = Network([events(PENDING + ending)]).client().messages.stream("Hi")
    with pytest.raises(RequestFailedError) as caught:
        await stream.reply()

    assert (code, retryable, REQUEST_ID) == (caught.value.code, caught.value.retryable, str(caught.value.request_id))
    assert name == (stream.ending.type if stream.ending else None)
    assert FailedEvent is not type(stream.ending) or name == "failed"


@pytest.mark.parametrize("patience", [0, 10])
async def test_gateways_that_stay_away(patience: float, clock: Clock) -> None:
    """After the time for it the error names the request, which goes on."""
    down = [events(PENDING + HEL), *[httpx.ConnectError("no") for _ in range(1000)]]
    stream = Network(down).client(reconnect_seconds=patience).messages.stream("Hi")
    began = clock.now
    with pytest.raises(UnreachableError) as caught:
        await read(stream)

    assert (REQUEST_ID, True) == (str(caught.value.request_id), caught.value.retryable)
    assert clock.now - began <= patience
    assert caught.value.idempotency_key is None


async def test_a_message_that_is_refused() -> None:
    """A refusal is an error with the gateway's words; nothing is sent twice."""
    network = Network([problem(422, "unknown_model")])
    with pytest.raises(ClientError, match=r"a detail \(unknown_model\)") as caught:
        await read(network.client().messages.stream("Hi"))

    assert (422, "unknown_model", False, 1) == (
        caught.value.status,
        caught.value.code,
        caught.value.retryable,
        len(network.calls),
    )


@pytest.mark.parametrize(
    "text",
    [
        "event: pending\ndata: nonsense\n\n",
        "event: pending\ndata: []\n\n",
        PENDING + "event: delta\ndata: {}\n\n",
        PENDING + 'event: completed\ndata: {"output": [{}]}\n\n',
    ],
)
async def test_what_is_no_gateway(text: str) -> None:
    """Data that no gateway sends is an error, not an event."""
    with pytest.raises(ClientError, match="did not answer like a gateway"):
        await read(Network([events(text)]).client().messages.stream("Hi"))
    with pytest.raises(ClientError, match="does not stream"):
        await read(Network([ok({})]).client().messages.stream("Hi"))


async def test_cancelling_is_not_hidden_by_a_broken_connection() -> None:
    """A task that is cancelled while its connection fails ends as cancelled, and does not connect again."""

    def broken(_: httpx.Request) -> Exception:
        task = asyncio.current_task()
        assert task
        task.cancel()
        return httpx.ReadError("closed")

    network = Network(broken)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(read(network.client().messages.stream("Hi")))

    assert 1 == len(network.calls)


def turn(id: str, text: str) -> list[str]:
    """What a conversation's stream has of one turn."""
    about = {"request_id": id, "conversation_id": CONVERSATION_ID}
    parts = [("started", "1.0", {"attempt": 1}), ("delta", f"1.{len(text)}", {"text": text})]
    parts.append(("completed", f"1.{len(text)}.end", {"reply": text, "usage": None}))
    head = f"event: pending\ndata: {json.dumps(about)}\n\n"
    return [head] + [
        f"id: {id}:{place}\nevent: {name}\ndata: {json.dumps({'request_id': id, **data})}\n\n"
        for name, place, data in parts
    ]


SECOND = "7b1f0c52-6d4e-8a30-9c11-2f8e4b6a9d02"
TURNS = [turn(REQUEST_ID, "Hello"), turn(SECOND, "World")]
DELETED = f'event: deleted\ndata: {{"conversation_id": "{CONVERSATION_ID}"}}\n\n'


def rest_of_turns(request: httpx.Request, cut: int | None = None) -> httpx.Response:
    """What a gateway sends of these turns to a client that resumes."""
    turns, last = [list(each) for each in TURNS], request.headers.get("last-event-id")
    if last:
        at = next(at for at, each in enumerate(turns) if last.startswith(each[1][4:40]))
        place = next(place for place, part in enumerate(turns[at], 1) if part.startswith(f"id: {last}\n"))
        rest = turns[at][place:]
        turns = [[turns[at][0], *rest] if rest else [], *turns[at + 1 :]]
    return events("".join(part for each in turns for part in each) + DELETED, cut)


async def test_a_conversation_goes_on_wherever_it_breaks() -> None:
    """Whichever byte is the last one of a connection, the events of all turns come once each, the deletion last."""
    whole = "".join(part for each in TURNS for part in each) + DELETED
    names = ["pending", "started", "delta", "completed"] * 2 + ["deleted"]
    for cut in range(0, len(whole), 3):

        def answer(request: httpx.Request, cut: int = cut) -> httpx.Response:
            return rest_of_turns(request, cut if request.url.host == "one" else None)

        network = Network(answer)
        async with network.client(["http://one", "http://two"]).conversations.stream(CONVERSATION_ID) as stream:
            found = [event async for event in stream]

        assert (cut, names) == (cut, [event.type for event in found])
        assert [REQUEST_ID] * 4 + [SECOND] * 4 == [str(event.request_id) for event in found[:-1]]
        assert [f"GET {host}/v1/conversations/{CONVERSATION_ID}/events" for host in ("one", "two")] == network.lines


async def test_a_conversation_that_was_deleted_in_between() -> None:
    """A stream that does not find it any more ends with the same event; of one that never was there it is an error."""
    gone = problem(404, "not_found")
    stream = Network([events("".join(TURNS[0])), gone]).blocking().conversations.stream(CONVERSATION_ID)
    with stream:
        assert ["pending", "started", "delta", "completed", "deleted"] == [event.type for event in stream]
    with pytest.raises(ClientError, match="not_found"):
        next(Network([gone]).blocking().conversations.stream(CONVERSATION_ID))


async def test_a_conversation_is_resumed_by_another_stream() -> None:
    """A place of an earlier stream is where a new one begins."""
    network = Network(rest_of_turns)
    async with network.client().conversations.stream(CONVERSATION_ID, last_event_id=f"{REQUEST_ID}:1.5.end") as stream:
        assert str(SECOND) == str((await anext(stream)).request_id)
        assert f"{REQUEST_ID}:1.5.end" == stream.last_event_id


async def test_a_reason_of_tomorrow() -> None:
    """A stream whose answer ended for a reason that the client does not know is read all the same."""
    ending = COMPLETED.replace("tool_calls", "bored").replace("function_call", "dance")
    reply = await Network([events(PENDING + ending)]).client().messages.stream("Hi").reply()

    assert ("bored", "dance") == (reply.finish_reason, reply.output and reply.output[1]["type"])
