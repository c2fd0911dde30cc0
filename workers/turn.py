"""④ Runs one turn: recall → generate → finish."""

import asyncio
import random
import time
from asyncio import Future
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

import structlog

from orchestra.agents.catalogue import Agents
from orchestra.store.claims import Claimed, next_attempt
from orchestra.store.database import Database
from orchestra.store.endings import AttemptEnd, Items
from orchestra.store.messages import Recall, answer, recall
from orchestra.store.patience import until_available
from orchestra.store.turns import ConversationRef
from orchestra.transcript import Piece
from schemas.content import calls_in, file_ids_in
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, GenerateRequest
from schemas.status import Status
from workers.answer_check import MAX_CHARACTERS, Answers, mismatch
from workers.deltas import Deltas
from workers.flight import Flight
from workers.generate import MAX_REPLY_CHARACTERS, Done, FallbackRestart, LlmService, State
from workers.media import Files, FilesAwayError, Held, Media
from workers.metrics import Metrics
from workers.models import Models
from workers.outcome import Cancelled, Completed, Expired, Failed, Interrupted, LeaseLost, Outcome, RetryLater
from workers.prompt import Prompt, generation, prepare
from workers.publish import Publisher
from workers.retry import PACES, after_error
from workers.throttle import Throttle
from workers.timings import TIMINGS, Timings
from workers.weights import NO_FILES, weight, weight_of_file

History = dict[ConversationRef, list[ChatMessage]]
Prepared = Prompt | OrchestraError | Held
"""What a turn starts with: its prompt, why it has none, or the room for a body that must be read first."""
T = TypeVar("T")

log = structlog.get_logger()


class Turns:
    """Runs turns. ``finish`` writes an ending and returns when it is committed."""

    def __init__(
        self,
        llm: LlmService,
        models: Models,
        agents: Agents,
        database: Database,
        publisher: Publisher,
        metrics: Metrics,
        throttle: Throttle,
        media: Media,
        finish: Callable[[AttemptEnd], Awaitable[None]],
        timings: Timings = TIMINGS,
    ) -> None:
        self._timings = timings
        self._llm = llm
        self._models = models
        self._agents = agents
        self._answers = Answers()
        self._database = database
        self._publisher = publisher
        self._metrics = metrics
        self._throttle = throttle
        self._media = media
        self._finish = finish

    def run(self, flights: Sequence[Flight]) -> list[Coroutine[Any, Any, None]]:
        """Return one coroutine per turn. The histories of all turns are read with one query."""
        prompts: list[Prepared] = [self._prepare(flight.turn) for flight in flights]
        wanted = [
            Recall(flight.turn.conversation, prompt.history_budget)
            for flight, prompt in zip(flights, prompts, strict=True)
            if isinstance(prompt, Prompt)
            and prompt.history_budget
            and flight.turn.may_have_history
            and prompt.sizes is None
        ]
        history = asyncio.ensure_future(self._recall(wanted)) if wanted else None
        return [self._run(flight, prompt, history) for flight, prompt in zip(flights, prompts, strict=True)]

    async def _run(self, flight: Flight, prompt: Prepared, history: "Future[History] | None") -> None:
        try:
            with self._metrics.attempt_seconds.time():
                outcome = await self._attempt(flight, prompt, history)
            ending = _ending(flight.turn, outcome)
        except Exception as error:  # Whatever it is, the turn must end.
            log.error("turn_crashed", request_id=str(flight.turn.id), exc_info=error)
            outcome = Failed(ErrorCode.INTERNAL, f"the worker failed: {type(error).__name__}")
            ending = _ending(flight.turn, outcome)
        flight.end()
        self._metrics.outcomes.labels(type(outcome).__name__).inc()
        if isinstance(outcome, RetryLater):
            # Before the ending is written: the next attempt may start with it, and its events come after this one.
            self._publisher.restart(flight.turn, outcome.code, outcome.detail)
        try:
            if ending:
                await self._finish(ending)
        finally:
            if isinstance(prompt, Held):
                prompt.release()

    async def _attempt(self, flight: Flight, prompt: Prepared, history: "Future[History] | None") -> Outcome:
        turn = flight.turn
        try:
            async with asyncio.timeout(min(self._timings.attempt, turn.seconds_left)) as limit:
                if isinstance(prompt, OrchestraError):
                    raise prompt
                if isinstance(prompt, Held):
                    return await self._generate_large(flight, prompt, limit)
                if prompt.sizes is not None:
                    return await self._generate_with_files(flight, prompt, limit)
                recalled = await asyncio.shield(history) if history else {}
                return await self._generate(flight, prompt, recalled.get(turn.conversation), {}, limit)
        except asyncio.CancelledError as leaked:
            if flight.stopped is not None:
                return flight.stopped
            task = asyncio.current_task()
            if task and task.cancelling():
                raise
            return self._crashed(flight, leaked)  # Nothing cancelled this task: a library leaked its own error.
        except TimeoutError:
            if time.monotonic() - flight.began >= turn.seconds_left:
                return Expired()
            late = OrchestraError(ErrorCode.TIMEOUT, f"the answer was not complete after {self._timings.attempt:.0f} s")
            return self._after(flight, late)
        except OrchestraError as error:
            return self._after(flight, error)
        except Exception as error:  # noqa: BLE001  whatever it is, the turn must end or be retried
            return self._crashed(flight, error)

    async def _generate_large(self, flight: Flight, held: Held, limit: asyncio.Timeout) -> Outcome:
        """Read a body that was too large for its record, then continue like any other attempt."""
        turn = flight.turn
        body = await self._untimed(flight, limit, self._media.body(turn.owner, turn.body, held))
        flight.turn = turn = replace(turn, body=body)
        prompt = prepare(turn, self._models.find(turn.model), self._agents)
        if prompt.sizes is not None:
            return await self._generate_with_files(flight, prompt, limit)
        return await self._generate(flight, prompt, await self._history(turn, prompt), {}, limit)

    async def _history(self, turn: Claimed, prompt: Prompt) -> Sequence[ChatMessage] | None:
        if not (prompt.history_budget and turn.may_have_history):
            return None
        return (await self._recall([Recall(turn.conversation, prompt.history_budget)])).get(turn.conversation)

    async def _generate_with_files(self, flight: Flight, prompt: Prompt, limit: asyncio.Timeout) -> Outcome:
        """Look up the files that a request names, whose weights decide how much history fits, then generate."""
        turn, model = flight.turn, self._models.find(flight.turn.model)
        found = await self._media.find(turn.owner, prompt.body.messages, model)
        prompt = prepare(turn, model, self._agents, {id: weight_of_file(file) for id, file in found.items()})
        return await self._generate(flight, prompt, await self._history(turn, prompt), found, limit)

    async def _generate(
        self,
        flight: Flight,
        prompt: Prompt,
        history: Sequence[ChatMessage] | None,
        found: Files,
        limit: asyncio.Timeout,
    ) -> Outcome:
        ask = generation(flight.turn, prompt, history)
        held = self._media.hold() if found or (history and file_ids_in(history)) else None
        deltas = self._deltas(flight)
        state: dict[str, Any] | None = None
        try:
            if held:
                ask = await self._with_data(flight, ask, held, found, history or (), limit)
            answering = self._llm.generate(ask, str(flight.turn.id), flight.turn.traceparent)
            del ask  # With the data of files it is large, and nothing needs it during the call.
            async with aclosing(answering) as pieces:
                async for piece in pieces:
                    if held:  # The model has all of the prompt.
                        held.release()
                        held = None
                    match piece:
                        case str() | Piece():
                            deltas.add(piece)
                            if prompt.schema and deltas.text_length > MAX_CHARACTERS:
                                raise mismatch(f"it is longer than {MAX_CHARACTERS} characters")
                            if deltas.length > MAX_REPLY_CHARACTERS:
                                failure = Failed(ErrorCode.BAD_UPSTREAM, "the answer is too long to store")
                                return _logged(flight.turn, failure)
                        case State():
                            state = piece.value
                        case FallbackRestart():
                            deltas.drop()
                            if not await self._renew(flight):
                                return LeaseLost()
                            deltas, state = self._deltas(flight), None
                        case Done():
                            return await self._completed(flight, prompt, deltas, piece, state)
        finally:
            deltas.close()
            if held:
                held.release()
        raise AssertionError("generate ends with Done or raises")

    async def _with_data(
        self,
        flight: Flight,
        ask: GenerateRequest,
        held: Held,
        found: Files,
        history: Sequence[ChatMessage],
        limit: asyncio.Timeout,
    ) -> GenerateRequest:
        """The request with the data of its files."""
        turn = flight.turn
        filling = self._media.fill(ask, held, turn.owner, self._models.find(turn.model), found, history)
        return await self._untimed(flight, limit, filling)

    async def _untimed(self, flight: Flight, limit: asyncio.Timeout, work: Awaitable[T]) -> T:
        """Do ``work`` that may wait for room in memory. Its time counts for the deadline, but not for the attempt."""
        now = asyncio.get_running_loop().time
        left = flight.turn.seconds_left - (time.monotonic() - flight.began)
        limit.reschedule(now() + left)
        began = now()
        done = await work
        limit.reschedule(now() + min(self._timings.attempt, left - (now() - began)))
        return done

    async def _completed(
        self, flight: Flight, prompt: Prompt, deltas: Deltas, done: Done, state: dict[str, Any] | None
    ) -> Outcome:
        text, output = deltas.text(), deltas.output()
        # The schema is for the final answer. One that calls tools is not final.
        if not (output and calls_in(output)):
            await self._answers.check(prompt.schema, text)
        # An answer from a fallback says nothing about the model that was asked for.
        if done.usage.model is None and self._throttle.accepted(flight.turn.model, flight.began):
            log.info("model_answers_again", model=self._name(flight.turn.model))
        said = prompt.body.said(prompt.sizes or NO_FILES)
        return Completed(text, done.usage, done.finish_reason, said, output, state)

    def _deltas(self, flight: Flight) -> Deltas:
        return Deltas(flight.turn, self._publisher, self._metrics, self._timings)

    async def _renew(self, flight: Flight) -> bool:
        """Continue as the next attempt. False if another worker has the turn by now.

        A cancellation is deferred until the attempt's number is known: the ending must name the right attempt.
        """
        stopped = False
        with flight.renewing():
            renewal = asyncio.ensure_future(self._next_attempt(flight.turn))
            while not renewal.done():
                try:
                    await asyncio.shield(renewal)
                except asyncio.CancelledError:
                    stopped = True
            turn = renewal.result()
            flight.turn = turn or flight.turn
        if stopped:
            raise asyncio.CancelledError
        return turn is not None

    async def _next_attempt(self, turn: Claimed) -> Claimed | None:
        return await until_available(
            lambda: next_attempt(self._database, turn),
            "next_attempt_failed",
            pause=self._timings.retry_database,
            request_id=str(turn.id),
        )

    def _crashed(self, flight: Flight, error: BaseException) -> Outcome:
        log.error("attempt_crashed", request_id=str(flight.turn.id), exc_info=error)
        return self._after(flight, OrchestraError(ErrorCode.INTERNAL, f"the worker failed: {type(error).__name__}"))

    def _after(self, flight: Flight, error: OrchestraError) -> Outcome:
        """The outcome after an error. The time that the attempt took is subtracted from the time left."""
        of_model = error.code in PACES and not isinstance(error, FilesAwayError)
        held = self._refused(flight, error) if of_model else 0.0
        turn, spent = flight.turn, time.monotonic() - flight.began
        turn = replace(turn, seconds_left=turn.seconds_left - spent, caller_seconds=turn.caller_seconds - spent)
        return _logged(turn, after_error(turn, error, random.uniform, held))

    def _refused(self, flight: Flight, error: OrchestraError) -> float:
        refusal = self._throttle.refused(flight.turn.model, error, flight.began)
        if refusal.first:
            name, seconds = self._name(flight.turn.model), round(refusal.seconds, 1)
            log.warning("model_held_back", model=name, code=error.code, seconds=seconds)
        return refusal.seconds

    def _name(self, model: str) -> str | None:
        """The model's name in the LLM service. The name that a client sent is never logged."""
        info = self._models.find(model)
        return info.name if info else None

    def _prepare(self, turn: Claimed) -> Prepared:
        try:
            if "body_ref" in turn.body:
                return self._media.hold_body()
            return prepare(turn, self._models.find(turn.model), self._agents)
        except OrchestraError as error:
            return error
        except Exception as error:  # One unreadable turn must not block the others.
            log.error("turn_unreadable", request_id=str(turn.id), exc_info=error)
            return OrchestraError(ErrorCode.INTERNAL, f"the worker failed: {type(error).__name__}")

    async def _recall(self, wanted: Sequence[Recall]) -> History:
        return await until_available(
            lambda: recall(self._database, wanted), "recall_failed", pause=self._timings.retry_database
        )


def _ending(turn: Claimed, outcome: Outcome) -> AttemptEnd | None:
    def ending(status: Status, **more: Any) -> AttemptEnd:
        return AttemptEnd(turn.tenant, turn.id, turn.conversation_id, turn.fence, status, **more)

    match outcome:
        case Completed(text, usage, finish_reason, said, output, state):
            items = None if output is None else Items(output, weight(answer(text, output, state)), state)
            return ending(
                Status.COMPLETED, said=said, reply=text, usage=usage, finish_reason=finish_reason, items=items
            )
        case RetryLater(delay, give_try_back, code, detail):
            row = _log(turn, code, detail)
            return ending(Status.PENDING, delay=delay, give_try_back=give_try_back, error=(code, detail), log=row)
        case Failed(code, detail):
            return ending(Status.FAILED, error=(code, detail), log=_log(turn, code, detail))
        case Cancelled():
            return ending(Status.CANCELLED)
        case Expired(error):
            return ending(Status.EXPIRED, error=error, log=_log(turn, *error) if error else None)
        case Interrupted():
            return ending(Status.PENDING, give_try_back=True)
        case LeaseLost():
            return None


def _logged(turn: Claimed, outcome: Outcome) -> Outcome:
    """Log a failure and return its outcome. A refusal by a held model is only a debug line: its hold is logged once."""
    match outcome:
        case Failed(code):
            log.warning("request_failed", request_id=str(turn.id), code=code, attempt=turn.fence)
        case Expired((code, _)):
            log.warning("request_expired", request_id=str(turn.id), code=code, attempt=turn.fence)
        case RetryLater(code=code):
            tell = log.debug if code in PACES else log.info
            tell("attempt_failed", request_id=str(turn.id), code=code, attempt=turn.fence)
    return outcome


def _log(turn: Claimed, code: ErrorCode, detail: str) -> tuple[str, str]:
    # The kinds of row in the `logs` table of the system before this one.
    unread = code in (ErrorCode.BAD_UPSTREAM, ErrorCode.ANSWER_MISMATCH)
    kind = "llm_decode_error" if unread else "llm_call_error"
    return kind, f"request {turn.id} attempt {turn.fence}: {code}: {detail}"
