"""One turn by OpenAI's API: a chat completion with its whole dialogue, or a response that goes on from another one."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import aiohttp

from faults import door
from faults.client import BROKEN, StreamEvent, Told
from faults.ledger import CHAT_WAYS, Way
from faults.question import FILE, OFFER, TOOL, TOOL_NAME, Question
from faults.turn import Conditions, Turn
from schemas.errors import ErrorCode
from schemas.status import Status

# A GET of a response does not wait for its end.
_LOOK_SECONDS = (0.2, 2.0)
DOOR_STREAMS: tuple[Way, ...] = ("chat_stream", "response_stream")
# Endings of a stream that say nothing about its request.
_GOES_ON = (door.RESTARTED, ErrorCode.STILL_RUNNING)


@dataclass(frozen=True)
class Before:
    """What a question goes on from: a dialogue, or a response. ``call``: the tool call to which it is the result."""

    messages: Sequence[Mapping[str, Any]] = ()
    response: UUID | None = None
    call: str | None = None


class DoorTurn(Turn):
    """One question by OpenAI's API. ``before``: None for a response in the conversation that its question names.

    ``keyless``: without an Idempotency-Key, as OpenAI's libraries send it. Like them it is repeated after an error that
    permits it, under another key in its text, because it is another request; unlike them not after a broken connection,
    which leaves open what became of the first one.
    """

    def __init__(
        self,
        conditions: Conditions,
        question: Question,
        way: Way,
        *,
        before: Before | None = None,
        result_of: str | None = None,
        keyless: bool = False,
        **more: Any,
    ) -> None:
        if keyless:
            more |= {"duplicate": False, "impostor": None}
        super().__init__(conditions, question, way, result_of=before.call if before else result_of, **more)
        self._own = before is not None
        self._after = before.response if before else None
        self._before = before or Before()
        self._keyless = keyless
        self._chats = way in CHAT_WAYS
        self._path = door.CHAT if self._chats else door.RESPONSES
        self._last: int | None = None
        self._stream_call: str | None = None
        # Whether the last stream ended by itself, and so perhaps because its request did.
        self._ended = False

    @property
    def then(self) -> Before | None:
        """What the next question may go on from, if this one was answered."""
        answer = self.answer
        if answer is None or answer.status != Status.COMPLETED:
            return None
        if not self._chats:
            return Before(response=answer.id, call=answer.call)
        if self._alone:
            return None
        asked = self._body(self._question)["messages"]
        return Before([*asked, _message(answer)], call=answer.call)

    @property
    def _alone(self) -> bool:
        """Media are not sent again with each question that follows."""
        return self._media(self._question) is not None

    async def _begin(self) -> Told:
        return await (self._stream() if self._way in DOOR_STREAMS else self._accept())

    async def _accept(self, *, insist: bool = True) -> Told:
        if not self._keyless:
            return await super()._accept(insist=insist)
        while True:
            await self._note("sent")
            answer = await self._send(self._question)
            if answer.id:
                await self._acked(answer.id, answer.code)
                return answer
            # Only without a key: a request whose acceptance was in doubt is cancelled before the error is sent.
            may_repeat = answer.how == "busy" or answer.code == ErrorCode.OUTCOME_UNKNOWN
            await self._note("refused" if may_repeat or answer.how == "refused" else "unknown", code=answer.code)
            if not may_repeat:
                return self._given_up(answer)
            await self._pause(answer)
            self._question = replace(self._question, key=uuid4().hex)

    async def _post(self, gateway: str, question: Question, *, wait: bool) -> Told:  # noqa: ARG002
        body = self._body(question)
        if self._way not in DOOR_STREAMS:
            return await self._all.door.send(gateway, self._path, body, None if self._keyless else question.key)
        try:
            async with self._all.door.stream(gateway, self._path, body, question.key) as response:
                return Told("acked", door.stream_id(response)) if response.status == 200 else await door.told(response)
        except BROKEN:
            return Told("unknown")

    async def _follow(self, id: UUID) -> Told:
        if self._chats:
            return await super()._follow(id)
        if self._way == "background" and self._disconnect:
            return await self._stream_on(id, None)
        while (answer := await self._look(id)).how not in ("answered", "refused"):
            await asyncio.sleep(self._all.random.uniform(*_LOOK_SECONDS))
        return answer

    async def _look(self, id: UUID) -> Told:
        """Its state now."""
        if self._chats:
            return await self._all.http.get(self._gateway, id, wait=False)
        answer = await self._all.door.get(self._gateway, id)
        if answer.how == "refused":
            await self._note("refused", id=id, code=answer.code)
        elif answer.how != "acked":
            self._change()
        return answer

    async def _cancel_once(self, id: UUID) -> Told:
        if self._way == "background":
            return await self._all.door.cancel(self._all.gateway(), id)
        return await super()._cancel_once(id)

    # Streams.

    async def _first_stream(self) -> Told:
        id: UUID | None = None
        answer: Told | None = None
        try:
            body = self._body(self._question)
            async with self._all.door.stream(self._gateway, self._path, body, self._question.key) as response:
                if response.status != 200:
                    refused = await door.told(response)
                    if not refused.id:
                        return refused
                    id, self._ended = refused.id, True
                    await self._acked(id, refused.code)
                else:
                    id = door.stream_id(response)
                    await self._acked(id)
                    answer = await self._read_on(response, id, self._leave())
        except BROKEN:
            if id is None:
                return Told("unknown")
        return await self._stream_on(id, answer)

    async def _stream_on(self, id: UUID, answer: Told | None) -> Told:
        """Follow its stream over any number of gateways, unless the answer is there.

        A response is resumed behind its last event. A chat completion cannot be: the same key gets the same stream.
        """
        while answer is None:
            where = self._change()
            if self._ended and (now := await self._look(id)).how in ("answered", "refused"):
                return now
            answer = await self._open_again(id, where)
            if answer is None:
                await self._rest()
        return answer

    async def _open_again(self, id: UUID, where: str) -> Told | None:
        calls, key, again = self._all.door, self._question.key, self._leave_again()
        opened = (
            calls.stream(self._gateway, self._path, self._body(self._question), key)
            if self._chats
            else calls.resume(self._gateway, id, self._last)
        )
        try:
            async with opened as response:
                if response.status == 200:
                    await self._note("stream", id=id, status="repeated" if self._chats else "resumed", code=where)
                    return await self._read_on(response, id, again)
                answer = await door.told(response)
                if answer.how == "refused":
                    await self._note("refused", id=id, code=answer.code)
                    return answer
        except BROKEN:
            pass
        return None

    async def _read_on(self, response: aiohttp.ClientResponse, id: UUID, cut: int | None) -> Told | None:
        """Read until the ending, or leave at the event with this number. None: there is more to come, or none was."""
        self._ended = False
        if self._chats:
            self._text, self._stream_call = "", None
        number = 0
        if cut != 0:
            async for event in door.events(response):
                number += 1
                answer = await (self._take_chunk(event, id) if self._chats else self._take_event(event, id))
                if answer or self._ended:
                    return answer
                if number == cut:
                    break
        if number == cut:
            await self._left(number)
        else:
            self._ended = True
        return None

    async def _take_chunk(self, event: StreamEvent, id: UUID) -> Told | None:
        if event.name == door.DONE:
            return await self._heard_all(Told("answered", id, Status.COMPLETED, self._text, call=self._stream_call))
        if error := event.data.get("error"):
            await self._broke_off(error["code"], id)
        for choice in event.data.get("choices", ()):
            delta = choice["delta"]
            self._text += delta.get("content") or ""
            for call in delta.get("tool_calls") or ():
                self._stream_call = call.get("id") or self._stream_call
                self._text += call["function"]["arguments"]
        return None

    async def _take_event(self, event: StreamEvent, id: UUID) -> Told | None:
        if event.name == door.DONE:
            return None  # An earlier event had the ending.
        number = event.data["sequence_number"]
        if event.name == "error":
            # OpenAI's clients resume behind the last number that they have seen, be it that of an error.
            self._last = number
            await self._broke_off(event.data["code"], id)
            return None
        # The end of a failed response comes behind all that this client has, wherever that is.
        if event.name != "response.failed" and not door.follows(number, self._last):
            await self._note("stream", id=id, status="gap", code=f"{number} after {self._last}")
        if self._last is None or number // door.NUMBERS > self._last // door.NUMBERS:
            self._text = ""
        self._last = number
        match event.name:
            case "response.output_text.delta" | "response.function_call_arguments.delta":
                self._text += event.data["delta"]
            case "response.completed" | "response.incomplete":
                return await self._heard_all(door.of_response(event.data["response"]))
            case "response.failed":
                return door.of_response(event.data["response"])
        return None

    async def _heard_all(self, answer: Told) -> Told:
        await self._note("stream", id=answer.id, status="over", reply=self._text)
        return answer

    async def _broke_off(self, code: str, id: UUID) -> None:
        """Note the error with which a stream ended. Its request goes on, or a look at it says how it ended."""
        self._ended = True
        self._all.counts[code] += 1
        if code == door.RESTARTED:
            await self._note("stream", id=id, status="restart", code=code)
        elif code not in _GOES_ON:
            await self._note("stream", id=id, status="broken_off", code=code)

    # Bodies.

    def _body(self, question: Question) -> dict[str, Any]:
        model = {"model": self._all.model} if self._all.model else {}
        stream = {"stream": True} if self._way in DOOR_STREAMS else {}
        asked = self._chat(question) if self._chats else self._response(question)
        return {**asked, **stream, **model}

    def _chat(self, question: Question) -> dict[str, Any]:
        before = () if self._alone else self._before.messages
        tools = {"tools": [OFFER]} if question.note == TOOL else {}
        return {"messages": [*before, self._said(question)], **tools}

    def _response(self, question: Question) -> dict[str, Any]:
        text, media = question.text(self._all.padding), self._media(question)
        asked: dict[str, Any] = {"input": text}
        if self._result_of:
            asked["input"] = [{"type": "function_call_output", "call_id": self._result_of, "output": text}]
        elif media:
            parts = [{"type": "input_text", "text": text}, _input(question, media)]
            asked["input"] = [{"role": "user", "content": parts}]
        if question.note == TOOL:
            function: Any = OFFER["function"]
            asked["tools"] = [{"type": "function", **function}]
        if not self._own:
            asked["conversation"] = f"conv_{question.conversation.hex}"
        if self._after:
            asked["previous_response_id"] = f"resp_{self._after.hex}"
        if self._way == "background":
            asked["background"] = True
        return asked


def _input(question: Question, media: Mapping[str, Any]) -> dict[str, Any]:
    if question.note == FILE:
        return {"type": "input_file", **media["file"]}
    return {"type": "input_image", "image_url": media["image_url"]["url"]}


def _message(answer: Told) -> dict[str, Any]:
    """An answer, as the dialogue has it from then on."""
    if not answer.call:
        return {"role": "assistant", "content": answer.reply}
    function = {"name": TOOL_NAME, "arguments": answer.reply}
    call = {"id": answer.call, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}
