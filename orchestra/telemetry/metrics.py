"""Metrics that anyone may read: a label shows only the values on its list, and `other` for the rest."""

from collections.abc import Iterable, Sequence
from typing import Any, Self, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

OTHER = "other"
"""The value of a label for everything that is not on its list."""


class Label:
    """A label of metrics. ``values``: its list; assign another one when the configuration changes.

    ``of``: what the values are, for the reference; None: they are fixed, and the reference names them.
    """

    def __init__(self, name: str, values: Iterable[str] = (), of: str | None = None) -> None:
        self.name = name
        self.values = frozenset(values)
        self.of = of

    def shown(self, value: str) -> str:
        """The value as the label shows it."""
        return value if value in self.values else OTHER


_M = TypeVar("_M", bound="_Bounded")


class _Bounded(MetricWrapperBase):
    declared: Sequence[Label] = ()

    def labels(self, *values: object, **named: object) -> Self:
        """The series of these values, each as its label shows it."""
        given = values or [named[label.name] for label in self.declared]
        return super().labels(*(label.shown(str(value)) for label, value in zip(self.declared, given, strict=True)))


class _Counter(_Bounded, Counter):
    pass


class _Gauge(_Bounded, Gauge):
    pass


class _Histogram(_Bounded, Histogram):
    pass


class Registry(CollectorRegistry):
    """Makes and keeps the metrics of a service."""

    def register(self, collector: Collector) -> None:
        """Keep a metric. Raises ``TypeError`` if it has labels without lists: make it with the methods below."""
        if getattr(collector, "_labelnames", ()) and not isinstance(collector, _Bounded):
            raise TypeError(f"{collector} has labels without lists of values")
        super().register(collector)

    def counter(self, name: str, what: str, *labels: Label) -> Counter:
        """A number that only grows."""
        return self._made(_Counter, name, what, labels)

    def gauge(self, name: str, what: str, *labels: Label) -> Gauge:
        """A number that changes."""
        return self._made(_Gauge, name, what, labels)

    def histogram(self, name: str, what: str, *labels: Label, buckets: Sequence[float]) -> Histogram:
        """Numbers, counted up to each of these bounds."""
        return self._made(_Histogram, name, what, labels, buckets=buckets)

    def labels_of(self, name: str) -> Sequence[Label]:
        """The labels of the metric with this name."""
        metric = self._names_to_collectors[name]
        return metric.declared if isinstance(metric, _Bounded) else ()

    def _made(self, kind: type[_M], name: str, what: str, labels: Sequence[Label], **more: Any) -> _M:
        metric = kind(name, what, [label.name for label in labels], registry=self, **more)
        metric.declared = labels
        return metric
