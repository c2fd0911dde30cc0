"""One generation: a place at the model, a time limit, the provider's pieces, and what is measured of it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from time import perf_counter

import structlog

from llm_service.metrics import Metrics
from llm_service.providers.base import Call, Ending, Piece
from llm_service.registry import Model
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import GenerateRequest

_log = structlog.get_logger()


class Generation:
    """What was asked of a model, not yet begun."""

    def __init__(self, model: Model, ask: GenerateRequest, metrics: Metrics, seconds: float) -> None:
        self._model = model
        self._metrics = metrics
        self.seconds = seconds
        self._began = perf_counter()
        self._whole = False
        limit = model.entry.max_output_tokens
        self._call = Call(
            model=model.upstream,
            messages=ask.messages,
            max_tokens=min(ask.max_tokens or limit, limit),
            temperature=ask.temperature,
            top_p=ask.top_p,
            stop=ask.stop,
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncGenerator[Piece, None]]:
        """Run it: the pieces as they come. Leaving the block early closes the call upstream.

        Raises `OrchestraError` with one of the codes of `schemas.generation.GenerationErrorCode`.
        """
        outcome = "abandoned"
        in_flight = self._metrics.in_flight.labels(self._model.label)
        in_flight.inc()
        try:
            async with asyncio.timeout(self.seconds), AsyncExitStack() as stack:
                if self._model.gate:
                    await stack.enter_async_context(self._model.gate.place())
                yield await stack.enter_async_context(aclosing(self._model.provider.stream(self._call)))
            outcome = "completed" if self._whole else "cut"
        except TimeoutError:
            outcome = ErrorCode.TIMEOUT
            raise OrchestraError(ErrorCode.TIMEOUT, "The generation took longer than it may.") from None
        except OrchestraError as error:
            outcome = error.code
            raise
        finally:
            in_flight.dec()
            self._ended(outcome)

    def first_piece(self) -> None:
        """Note that text begins to come."""
        self._metrics.first_token.labels(self._model.label).observe(perf_counter() - self._began)

    def completed(self, ending: Ending) -> None:
        """Note that the text is whole, and what it used."""
        self._whole = True
        self._metrics.tokens.labels(self._model.label, "input").inc(ending.usage.input_tokens)
        self._metrics.tokens.labels(self._model.label, "output").inc(ending.usage.output_tokens)

    def _ended(self, outcome: str) -> None:
        seconds = perf_counter() - self._began
        self._metrics.generations.labels(self._model.label, outcome).inc()
        self._metrics.duration.labels(self._model.label).observe(seconds)
        log = _log.debug if outcome in ("completed", "abandoned") else _log.warning
        log("generation_ended", model=self._model.label, outcome=outcome, seconds=round(seconds, 3))
