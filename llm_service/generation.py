"""One generation: a model and its fallbacks, a time limit for all of them, and their metrics."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from time import perf_counter

import structlog

from llm_service.metrics import Metrics, OfModel
from llm_service.models import SIMULATED
from llm_service.providers.base import Call, EndOfText, Piece, worth_sending
from llm_service.providers.refusals import RefusalError
from llm_service.registry import Model
from schemas.content import file_ids_in, refuse_web_urls
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import GenerateRequest

# Faults of the model, which its fallback may not have. A fault of the request is one for every model.
_OUT_OF_ORDER = frozenset(
    {
        ErrorCode.RATE_LIMITED,
        ErrorCode.OVERLOADED,
        ErrorCode.UNAVAILABLE,
        ErrorCode.TIMEOUT,
        ErrorCode.AUTH,
        ErrorCode.QUOTA_EXHAUSTED,
        ErrorCode.UNKNOWN_MODEL,
        ErrorCode.BAD_UPSTREAM,
        ErrorCode.EMPTY_REPLY,
    }
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FallbackRestart:
    """Discard all pieces before this one: this model starts over."""

    model: str


class Generation:
    """A generation that has not started. ``chain``: the model, then its fallbacks, in order.

    A model with a fallback may send nothing for at most ``silence`` seconds; ``seconds`` is the limit of all together.
    ``traceparent`` is sent to the providers. ``tell_words``: include a provider's own words in the detail of an error.
    ``media_urls``: whether media may be URLs that the provider fetches.
    """

    def __init__(
        self,
        chain: Sequence[Model],
        ask: GenerateRequest,
        metrics: Metrics,
        seconds: float,
        silence: float,
        *,
        traceparent: str | None = None,
        tell_words: bool = False,
        media_urls: bool = False,
    ) -> None:
        self._chain = chain
        self._ask = ask
        self._text_only = ask.text_only
        if not self._text_only:
            if file_ids_in(ask.messages):
                detail = "messages: file_id is known to gateways and workers only"
                raise OrchestraError(ErrorCode.UNSUPPORTED_PART, detail)
            if not media_urls:
                refuse_web_urls(ask.messages)
        self._traceparent = traceparent
        self._tell_words = tell_words
        self._metrics = metrics
        self._silence = silence
        self._limit = asyncio.timeout(seconds)
        self._whole = False
        self.seconds = seconds

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncGenerator[Piece | FallbackRestart, None]]:
        """Run it: the pieces as they arrive. Leaving the block early closes the call to the provider.

        Raises `OrchestraError` with one of the codes of `schemas.generation.GenerationErrorCode`. If all models
        failed, it is the error of the first one: that is the requested model, and the one to wait for.
        """
        try:
            async with self._limit, aclosing(self._pieces()) as pieces:
                yield pieces
        except TimeoutError:
            raise OrchestraError(ErrorCode.TIMEOUT, "The generation exceeded its time limit.") from None

    async def _pieces(self) -> AsyncGenerator[Piece | FallbackRestart, None]:
        told = False
        first: OrchestraError | None = None
        for model, stand_in in zip(self._chain, [*self._chain[1:], None], strict=True):
            if told:
                told = False
                yield FallbackRestart(model.label)
            began, counted = perf_counter(), self._metrics.of(model.label)
            error: OrchestraError | None = None
            try:
                async with self._opened(model, counted, patient=stand_in is None) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, EndOfText):
                            yield self._completed(model, counted, piece)
                        else:
                            if not told:
                                told = True
                                counted.first_token.observe(perf_counter() - began)
                            yield piece
            except OrchestraError as raised:
                error = raised
            if self._whole or (len(self._chain) == 1 and error is None):
                return  # An answer that was cut off has no end mark.
            error = error or OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's answer was cut off.")
            first = first or error
            if stand_in is None or error.code not in _OUT_OF_ORDER:
                raise first
            self._metrics.fallbacks.labels(model.label, stand_in.label, error.code).inc()
            _log.warning("generation_fell_back", model=model.label, reason=error.code)

    @asynccontextmanager
    async def _opened(
        self, model: Model, counted: OfModel, *, patient: bool
    ) -> AsyncIterator[AsyncGenerator[Piece, None]]:
        """The pieces of one model, counted and timed."""
        began = perf_counter()
        outcome, provider_code = "abandoned", None
        counted.in_flight.inc()
        try:
            async with AsyncExitStack() as stack:
                await self._admit(model, stack)
                pieces = await stack.enter_async_context(aclosing(model.provider.stream(self._call(model))))
                if not patient:
                    pieces = await stack.enter_async_context(aclosing(_impatient(pieces, self._silence)))
                yield pieces
            outcome = "completed" if self._whole else "cut"
        except OrchestraError as error:
            outcome = error.code
            if isinstance(error, RefusalError):
                provider_code = error.provider_code
                if self._tell_words:
                    error.tell_words()
            raise
        finally:
            seconds = perf_counter() - began
            counted.in_flight.dec()
            counted.duration.observe(seconds)
            outcome = ErrorCode.TIMEOUT if self._limit.expired() else outcome
            self._ended(model.label, outcome, provider_code, seconds)

    async def _admit(self, model: Model, stack: AsyncExitStack) -> None:
        """A slot of the model, held until the stack is closed, and one of its calls per minute."""
        limit = "max_concurrency"
        try:
            if model.gate:
                await stack.enter_async_context(model.gate.slot())
            limit = "requests_per_minute"
            if model.rate:
                model.rate.take()
        except OrchestraError:
            self._metrics.limited.labels(model.label, limit).inc()
            raise

    def _call(self, model: Model) -> Call:
        ask = self._ask
        return Call(
            model=model.upstream,
            messages=worth_sending(ask.messages),
            max_tokens=model.entry.output_limit(ask.max_tokens),
            options=ask,
            text_only=self._text_only,
            provider=model.entry.origin,
            stream_options=model.entry.stream_options,
            traceparent=self._traceparent,
        )

    def _completed(self, model: Model, counted: OfModel, ending: EndOfText) -> EndOfText:
        """The ending with its cost and the model that answered, counted."""
        self._whole = True
        usage, price = ending.usage, model.entry.price
        counted.input_tokens.inc(usage.input_tokens)
        counted.output_tokens.inc(usage.output_tokens)
        more: dict[str, object] = {}
        if price:
            # Rounded to far below a token's price, to avoid storing 0.30000000000000004.
            cost = round((usage.input_tokens * price.input + usage.output_tokens * price.output) / 1e6, 12)
            self._metrics.cost.labels(model.label).inc(cost)
            more["cost"] = cost
        if model is not self._chain[0]:
            more["model"] = model.label
        elif model.label == SIMULATED and not self._ask.model.startswith(SIMULATED):
            more["model"] = SIMULATED  # Not to be mistaken for the model that has that name.
        return replace(ending, usage=usage.model_copy(update=more)) if more else ending

    def _ended(self, model: str, outcome: str, provider_code: str | None, seconds: float) -> None:
        self._metrics.generations.labels(model, outcome).inc()
        log = _log.debug if outcome in ("completed", "abandoned") else _log.warning
        more = {"provider_code": provider_code} if provider_code else {}
        log("generation_ended", model=model, outcome=outcome, seconds=round(seconds, 3), **more)


async def _impatient(pieces: AsyncGenerator[Piece, None], seconds: float) -> AsyncGenerator[Piece, None]:
    """The same pieces. Raises ``timeout`` if none arrives for that long."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise OrchestraError(ErrorCode.TIMEOUT, f"The model sent nothing for {seconds:g} s.") from None
        yield piece
