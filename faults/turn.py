"""One turn of a stubborn client: sent until its outcome is known, then followed to its end."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import aiohttp

from faults.client import BROKEN, Direct, Http, StreamEvent, Told, answered, events, told
from faults.door import Door
from faults.ledger import Entry, Ledger, Part, Way, What
from faults.question import FILE, LARGE, OFFER, TASK_TYPE, TOOL, Question, data_url, document, telling
from orchestra.client import AsyncClient, ClientError, RequestFailedError
from orchestra.client.events import (
    CompletedEvent,
    DeltaEvent,
    Event,
    PendingEvent,
    RestartEvent,
    ToolCallDeltaEvent,
)
from orchestra.client.stream import AsyncStream
from schemas.errors import ErrorCode
from schemas.status import ENDINGS, Status

LATEST_CUT = 8
MAX_PAUSE = 5.0
HOLDING: tuple[Way, ...] = ("wait", "chat", "response")
"""The ways of a caller that holds a connection open for the whole answer, and has no id before that."""


@dataclass
class Conditions:
    """What all turns of a load share."""

    gateways: Sequence[str]
    http: Http
    door: Door
    direct: Direct
    client: Callable[[], AsyncClient]
    ledger: Ledger
    counts: Counter[str]
    random: random.Random
    padding: int
    patience: float
    model: str | None

    def gateway(self, other_than: str | None = None) -> str:
        """Any gateway but this one, if there is another."""
        return self.random.choice([url for url in self.gateways if url != other_than] or list(self.gateways))


class Turn:
    """One question. ``run`` raises nothing; an outcome that stays unclear is ``unknown`` in the ledger."""

    def __init__(
        self,
        conditions: Conditions,
        question: Question,
        way: Way,
        *,
        duplicate: bool = False,
        impostor: Question | None = None,
        cancel: bool = False,
        disconnect: bool = False,
        result_of: str | None = None,
    ) -> None:
        self._all = conditions
        self._question = question
        # See the fields of `Entry`.
        self._own = False
        self._after: UUID | None = None
        self._way = way
        self._duplicate = duplicate
        self._impostor = impostor
        self._cancel = cancel
        self._disconnect = disconnect
        self._result_of = result_of
        self.call: str | None = None
        """Id of the tool call with which the question was answered."""
        self.answer: Told | None = None
        """How it ended, once that is known."""
        self._file = ""
        self._gateway = conditions.gateway()
        self._id: asyncio.Future[UUID | None] = asyncio.get_running_loop().create_future()
        self._text = ""
        self._last_event: str | None = None

    async def clear(self) -> UUID | None:
        """Wait until it is accepted (its id) or abandoned (None)."""
        return await asyncio.shield(self._id)

    async def run(self) -> None:
        """Send it, with its duplicates and cancels, and follow it to its end."""
        try:
            async with asyncio.timeout(self._all.patience), asyncio.TaskGroup() as tasks:
                if self._question.note == FILE:
                    self._file = await self._upload()
                tasks.create_task(self._extras())
                await self._see_through()
        except TimeoutError:
            self._all.counts["given_up"] += 1
        finally:
            if not self._id.done():
                self._id.set_result(None)

    async def knock(self) -> None:
        """Send it without following it; drop it when it is surely refused."""
        try:
            async with asyncio.timeout(self._all.patience):
                answer = await self._accept(insist=False)
                self._all.counts["flood_refused" if answer.how == "busy" else f"flood_{answer.how}"] += 1
        except TimeoutError:
            self._all.counts["given_up"] += 1

    async def _upload(self) -> str:
        """Upload the file that it names, as often as it takes; the file's id."""
        while not (id := await self._all.http.upload(self._gateway, document(self._question.key))):
            self._all.counts["uploads_refused"] += 1
            await self._pause(Told("unknown"))
        return id

    async def _see_through(self) -> None:
        answer = await self._begin()
        if answer.how == "acked" and answer.id:
            answer = await self._follow(answer.id)
        if answer.how == "answered":
            self.call = answer.call
            self.answer = answer
            await self._answered(answer)

    async def _begin(self) -> Told:
        ways = {"stream": self._stream, "client": self._leave_to_client}
        return await ways.get(self._way, self._accept)()

    async def _accept(self, *, insist: bool = True) -> Told:
        """Send until it is accepted, refused for good, or (not ``insist``) surely not accepted."""
        was_unclear = False
        while True:
            await self._note("sent")
            answer = await self._send(self._question)
            if answer.id and answer.how in ("acked", "answered"):
                await self._acked(answer.id, answer.code)
                return answer
            if answer.how == "refused":
                await self._note("refused", code=answer.code)
                return self._given_up(answer)
            await self._unclear(answer)
            was_unclear = was_unclear or answer.how == "unknown"
            if answer.how == "busy" and not insist and not was_unclear:
                return self._given_up(answer)
            await self._pause(answer)

    async def _send(self, question: Question) -> Told:
        if self._way == "kafka":
            return await self._all.direct.request(UUID(question.key), question.conversation, self._body(question))
        return await self._post(self._gateway, question, wait=self._way == "wait")

    async def _post(self, gateway: str, question: Question, *, wait: bool) -> Told:
        body = self._body(question)
        if self._way == "task":
            return await self._all.http.task(gateway, body, question.key)
        return await self._all.http.post(gateway, body, question.key, wait=wait)

    async def _follow(self, id: UUID) -> Told:
        while True:
            answer = await self._all.http.get(self._gateway, id)
            if answer.how == "answered":
                return answer
            if answer.code == ErrorCode.NOT_FOUND and self._way != "kafka":
                # A gateway's id is its own receipt: it is never unknown once it was given out.
                await self._note("refused", code=answer.code)
                return answer
            if answer.how != "acked":
                await self._pause(answer)

    # Streams.

    async def _stream(self) -> Told:
        """Try until a stream is open, and follow it to its end over any number of gateways."""
        while True:
            await self._note("sent")
            answer = await self._first_stream()
            if answer.how == "answered":
                return answer
            if answer.how == "refused":
                await self._note("refused", code=answer.code)
                return self._given_up(answer)
            await self._unclear(answer)
            await self._pause(answer)

    async def _first_stream(self) -> Told:
        ending: StreamEvent | None = None
        id: UUID | None = None
        try:
            async with self._all.http.stream(self._gateway, self._body(self._question), self._question.key) as response:
                if response.status != 200:
                    return await told(response)
                id = UUID(response.headers["Location"].rpartition("/")[2])
                await self._acked(id)
                ending = await self._read(response, self._leave())
        except BROKEN:
            if id is None:
                return Told("unknown")
        assert id
        while ending is None:
            ending = await self._resume(id)
        return await self._over(id, ending)

    def _leave(self) -> int | None:
        return self._all.random.randrange(LATEST_CUT) if self._disconnect else None

    def _leave_again(self) -> int | None:
        return self._leave() if self._all.random.random() < 0.3 else None

    def _change(self) -> str:
        """Go to another gateway, if there is one: whether there was."""
        before, self._gateway = self._gateway, self._all.gateway(other_than=self._gateway)
        return "same" if before == self._gateway else "other"

    async def _resume(self, id: UUID) -> StreamEvent | None:
        where, again = self._change(), self._leave_again()
        try:
            async with self._all.http.resume(self._gateway, id, self._last_event) as response:
                if response.status == 200:
                    await self._note("stream", id=id, status="resumed", code=where)
                    return await self._read(response, again)
                if response.status == 404:
                    await self._note("refused", id=id, code=ErrorCode.NOT_FOUND)
        except BROKEN:
            pass
        await self._rest()
        return None

    async def _rest(self) -> None:
        await asyncio.sleep(self._all.random.uniform(0.2, 1.0))

    async def _read(self, response: aiohttp.ClientResponse, cut: int | None) -> StreamEvent | None:
        """Read until the ending, or leave at the event with this number."""
        number = 0
        if cut != 0:
            async for event in events(response):
                number += 1
                self._last_event = event.id or self._last_event
                match event.name:
                    case "delta":
                        self._text += event.data["text"]
                    case "tool_call.delta":
                        self._text += event.data["arguments"]
                    case "started":
                        self._text = ""
                    case "restart":
                        self._text = telling(event.data["text"], event.data.get("output"))
                        await self._note("stream", status="restart")
                    case name if name in ENDINGS:
                        return event
                if number == cut:
                    break
        if number == cut:
            await self._left(number)
        return None

    async def _left(self, number: int) -> None:
        self._all.counts["disconnects"] += 1
        await self._note("stream", status="left", code=str(number))

    async def _over(self, id: UUID, ending: StreamEvent) -> Told:
        if ending.name != Status.COMPLETED:
            return Told("answered", id, ending.name, code=ending.data.get("code"))
        await self._note("stream", id=id, status="over", reply=self._text)
        return answered(id, ending.name, ending.data)

    # The product's client.

    async def _leave_to_client(self) -> Told:
        """One call of the product's client, which has to see it through by itself."""
        await self._note("sent")
        body, key = self._body(self._question), self._question.key
        try:
            if not self._disconnect:
                reply = await self._all.client().messages.send(**body, idempotency_key=key)
                await self._acked(reply.request_id)
                return Told("answered", reply.request_id, Status.COMPLETED, telling(reply.reply, reply.output))
            async with self._all.client().messages.stream(**body, idempotency_key=key) as stream:
                async for event in stream:
                    await self._heard(event)
            return await self._streamed(stream)
        except ClientError as error:
            return await self._failed(error)

    async def _heard(self, event: Event) -> None:
        match event:
            case PendingEvent():
                await self._acked(event.request_id)
            case DeltaEvent():
                self._text += event.text
            case ToolCallDeltaEvent():
                self._text += event.arguments
            case RestartEvent():
                self._text = telling(event.text, event.output)
                await self._note("stream", status="restart")

    async def _streamed(self, stream: AsyncStream) -> Told:
        id, ending = stream.request_id, stream.ending
        if isinstance(ending, CompletedEvent):
            await self._note("stream", id=id, status="over", reply=self._text)
            return answered(id, ending.type, ending.model_dump())
        assert ending
        return Told("answered", id, ending.type, code=stream.error.code if stream.error else None)

    async def _failed(self, error: ClientError) -> Told:
        if isinstance(error, RequestFailedError) and error.request_id:
            await self._acked(error.request_id)
            status = error.code if error.code in {Status.CANCELLED, Status.EXPIRED} else Status.FAILED
            return Told("answered", error.request_id, status, code=error.code)
        await self._note("unknown" if error.retryable else "refused", id=error.request_id, code=error.code)
        return self._given_up(Told("unknown" if error.retryable else "refused", error.request_id, code=error.code))

    # Duplicates and cancels.

    async def _extras(self) -> None:
        """Send duplicates, impostors and cancels, before, while and after it runs."""
        if self._cancel and self._way == "kafka" and self._all.random.random() < 0.3:
            await self._send_cancel(UUID(self._question.key))  # Before its request.
            self._cancel = False
        if self._duplicate:
            await asyncio.sleep(self._all.random.uniform(0, 0.2))
            await self._again(self._question, "duplicate")
        if not (self._impostor or self._cancel):
            return
        id = await self.clear()
        if self._impostor and id:
            await self._again(self._impostor, "impostor")
        if self._cancel and id:
            await asyncio.sleep(self._all.random.uniform(0, 0.5))
            await self._send_cancel(id)

    async def _again(self, question: Question, part: Part) -> None:
        """Send once under the same key, without waiting."""
        await self._note("sent", part=part)
        if self._way == "kafka":
            body = self._body(question)
            answer = await self._all.direct.request(UUID(question.key), question.conversation, body)
        else:
            answer = await self._post(self._all.gateway(), question, wait=False)
        what: What = "acked" if answer.id and answer.how in ("acked", "answered") else "unknown"
        if answer.how in ("busy", "refused"):
            what = "refused"
        await self._note(what, part=part, id=answer.id, status=answer.status, code=answer.code)
        if answer.how == "answered":
            await self._note("answered", part=part, id=answer.id, status=answer.status, reply=answer.reply)
        if part == "duplicate" and what == "acked" and answer.id and self._way in HOLDING:
            await self._acked(answer.id)
        self._all.counts[f"{part}_{what}"] += 1

    async def _send_cancel(self, id: UUID) -> None:
        await self._note("cancel_sent", id=id)
        while True:
            answer = await self._cancel_once(id)
            if answer.how in ("acked", "answered", "refused"):
                break
            await self._pause(answer)
        if answer.how == "refused":
            return await self._note("refused", id=id, code=answer.code)
        await self._note("cancel_acked", id=id, status=answer.status)
        self._all.counts["cancels"] += 1
        return None

    async def _cancel_once(self, id: UUID) -> Told:
        if self._way == "kafka":
            return await self._all.direct.cancel(id, self._question.conversation)
        return await self._all.http.cancel(self._all.gateway(), id)

    # The ledger.

    def _body(self, question: Question) -> dict[str, Any]:
        asked: dict[str, Any] = {"messages": [self._said(question)]}
        if self._way == "task" and not self._result_of:
            asked = {"task_type": TASK_TYPE, "prompt": question.text(self._all.padding)}
        if question.note == TOOL:
            asked["tools"] = [OFFER]
        model = {"model": self._all.model} if self._all.model else {}
        return {"conversation_id": str(question.conversation), **asked, **model}

    def _said(self, question: Question) -> dict[str, Any]:
        """The message with the question."""
        text: Any = question.text(self._all.padding)
        if self._result_of:
            return {"role": "tool", "tool_call_id": self._result_of, "content": text}
        media = self._media(question)
        return {"role": "user", "content": [{"type": "text", "text": text}, media] if media else text}

    def _media(self, question: Question) -> dict[str, Any] | None:
        if question.note == FILE:
            return {"type": "file", "file": {"file_id": self._file}}
        if question.note == LARGE:
            return {"type": "image_url", "image_url": {"url": data_url(question.key, question.note)}}
        return None

    async def _acked(self, id: UUID, code: str | None = None) -> None:
        if not self._id.done():
            self._id.set_result(id)
            self._all.counts["acked"] += 1
            self._all.counts[self._question.note] += 1
        await self._note("acked", id=id, code=code)

    async def _answered(self, answer: Told) -> None:
        self._all.counts[f"{answer.status}"] += 1
        await self._note("answered", id=answer.id, status=answer.status, reply=answer.reply, code=answer.code)

    async def _unclear(self, answer: Told) -> None:
        what: What = "refused" if answer.how == "busy" else "unknown"
        if answer.how == "busy" and answer.retry_after is None:
            self._all.counts["refused_without_retry_after"] += 1
        self._all.counts[what] += 1
        await self._note(what, code=answer.code)

    def _given_up(self, answer: Told) -> Told:
        if not self._id.done():
            self._id.set_result(None)
        return answer

    async def _pause(self, answer: Told) -> None:
        """Wait as long as the answer asked, within reason, and switch to another gateway."""
        self._gateway = self._all.gateway(other_than=self._gateway)
        most = min(MAX_PAUSE, answer.retry_after or 0.5)
        await asyncio.sleep(self._all.random.uniform(most / 4, most))

    async def _note(
        self,
        what: What,
        *,
        part: Part = "original",
        id: UUID | None = None,
        status: str | None = None,
        reply: str | None = None,
        code: str | None = None,
    ) -> None:
        asked = self._question
        entry = Entry(
            what, asked.key, asked.conversation, asked.ordinal, id, self._way, part, reply, status, code, self._own,
            self._after,
        )  # fmt: skip
        await self._all.ledger.write(entry)
