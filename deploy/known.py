"""The metrics of all services, as Prometheus stores them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from orchestra.telemetry.metrics import Label, Registry

SERVICES = {"gateway": 8080, "workers": 9464, "llm_service": 8082}
"""The port of each service's metrics, by its name in compose.yaml, which is that of its package and of its job."""
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


@dataclass(frozen=True)
class Known:
    """A metric. ``name``: without the suffixes of a histogram; ``labels``: by name."""

    name: str
    service: str
    kind: str
    what: str
    labels: Mapping[str, Label]

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series."""
        base = self.name.removesuffix("_total") if self.kind == "counter" else self.name
        return tuple(base + suffix for suffix in _SUFFIXES[self.kind])

    @property
    def same_everywhere(self) -> bool:
        """Whether each gateway shows the same number, so that only the maximum over them means something."""
        return self.service == "gateway" and not self.name.startswith("orchestra_gateway_")


@cache
def metrics() -> tuple[Known, ...]:
    """Every metric of every service."""
    found = []
    for service in SERVICES:
        registry: Registry = import_module(f"{service}.metrics").Metrics().registry
        for metric in registry.collect():
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            labels = {label.name: label for label in registry.labels_of(metric.name)}
            found.append(Known(name, service, metric.type, metric.documentation, labels))
    return tuple(found)


@cache
def by_series() -> Mapping[str, Known]:
    """The metric of each series, by the series' name."""
    return {series: metric for metric in metrics() for series in metric.series}
