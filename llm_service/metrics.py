"""Metrics of the LLM service."""

from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram

from orchestra.telemetry.metrics import Label, Registry
from schemas.errors import ErrorCode
from schemas.generation import ModelInfo

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


@dataclass(frozen=True, slots=True)
class OfModel:
    """The metrics of one model that every generation uses: looking them up by label costs more than counting."""

    in_flight: Gauge
    first_token: Histogram
    duration: Histogram
    input_tokens: Counter
    output_tokens: Counter


class Metrics:
    """The service's metrics, in their own registry."""

    def __init__(self) -> None:
        self.registry = Registry()
        self._models = model = Label("model", of="the models that the service offers")
        # The same models, under another label.
        self._fallbacks = Label("to", of="as `model`")
        limit = Label("limit", ("max_concurrency", "requests_per_minute"))
        self._of_models: dict[str, OfModel] = {}
        self.generations = self.registry.counter(
            "orchestra_llm_generations",
            "Generations that ended: completed, cut, abandoned (client disconnected or shutdown), or an error code.",
            model,
            Label(
                "outcome",
                ("completed", "cut", "abandoned", *ErrorCode),
                of="`completed`, `cut`, `abandoned`, [error codes](errors.md)",
            ),
        )
        self.in_flight = self.registry.gauge(
            "orchestra_llm_generations_in_flight", "Generations that are running or waiting for a slot.", model
        )
        self.first_token = self.registry.histogram(
            "orchestra_llm_first_token_seconds",
            "Time from the request to the first piece of text, including the wait for a slot.",
            model,
            buckets=_SECONDS,
        )
        self.duration = self.registry.histogram(
            "orchestra_llm_generation_seconds",
            "Time from the request to the end of the generation, however it ended.",
            model,
            buckets=_SECONDS,
        )
        self.tokens = self.registry.counter(
            "orchestra_llm_tokens",
            "Tokens of completed generations, as counted by the provider or, if it does not count, estimated.",
            model,
            Label("direction", ("input", "output")),
        )
        self.cost = self.registry.counter(
            "orchestra_llm_cost_dollars", "Cost of completed generations, from the prices in the models file.", model
        )
        self.fallbacks = self.registry.counter(
            "orchestra_llm_fallbacks",
            "Generations that moved on to a fallback model, by the error code of the failed one.",
            model,
            self._fallbacks,
            Label("reason", ErrorCode, of="[error codes](errors.md)"),
        )
        self.limited = self.registry.counter(
            "orchestra_llm_limited",
            "Generations rejected by a configured limit: max_concurrency or requests_per_minute.",
            model,
            limit,
        )
        self.limits = self.registry.gauge(
            "orchestra_llm_limit", "Configured limits: max_concurrency or requests_per_minute.", model, limit
        )

    def of(self, model: str) -> OfModel:
        """The metrics of the model with this label."""
        found = self._of_models.get(model)
        if found is None:
            found = self._of_models[model] = OfModel(
                self.in_flight.labels(model),
                self.first_token.labels(model),
                self.duration.labels(model),
                self.tokens.labels(model, "input"),
                self.tokens.labels(model, "output"),
            )
        return found

    def note_models(self, models: Sequence[ModelInfo]) -> None:
        """Name these models, and publish their limits next to their counts."""
        self._models.values = self._fallbacks.values = frozenset(model.name for model in models)
        for model in models:
            if model.max_concurrency:
                self.limits.labels(model.name, "max_concurrency").set(model.max_concurrency)
            if model.requests_per_minute:
                self.limits.labels(model.name, "requests_per_minute").set(model.requests_per_minute)
