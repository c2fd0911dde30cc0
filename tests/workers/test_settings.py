"""Promises of workers/settings.py: what a worker can be configured with, and which values it refuses."""

from typing import Any

import pytest
from pydantic import ValidationError

from workers.settings import WorkerSettings


def settings(**values: Any) -> WorkerSettings:
    """A worker's settings with these values."""
    return WorkerSettings.model_validate({"orchestra_secret": "s" * 32, **values})


@pytest.mark.parametrize("url", ["http://llm:8082", "http://llm:8082/", "http://llm:8082/generate"])
def test_the_llm_service_may_be_named_as_before(url: str) -> None:
    """The LLM service is configured by its base URL, or by the full URL as in the old system."""
    assert "http://llm:8082" == settings(llm_service_url=url).llm_service_url


def test_topics_have_their_tenants() -> None:
    """Topics are mapped to tenants; by default there is the shared topic, and spaces are ignored."""
    assert {"llm.requests": "default"} == settings().tenants
    assert {"a": "x", "b": "y"} == settings(ingress_topics="a=x, b=y").tenants


def test_topics_have_their_highest_priority() -> None:
    """Topics are mapped to their highest priority, and spaces are ignored."""
    assert {} == settings().priorities
    assert {"a": 5, "b": 0} == settings(ingress_priorities="a=5, b = 0").priorities


@pytest.mark.parametrize(
    "values",
    [
        {"llm_service_url": "llm:8082"},
        {"ingress_topics": ""},
        {"ingress_topics": "a"},
        {"ingress_topics": "a="},
        {"ingress_topics": "=x"},
        {"ingress_topics": "a=x=y"},
        {"ingress_topics": "a=x,"},
        {"ingress_topics": "a=x, =y"},
        {"ingress_topics": "a=x,a=y"},
        {"ingress_priorities": "a"},
        {"ingress_priorities": "a=10"},
        {"ingress_priorities": "a=x"},
        {"ingress_priorities": "=5"},
        {"ingress_priorities": "a=5,a=6"},
        {"max_owner_share": 0},
        {"max_tenant_share": 101},
        {"worker_concurrency": 0},
        {"drain_seconds": -1},
        {"retention_days": 6},
        {"metrics_port": -1},
        {"orchestra_secret": "short"},
        {"agents_dir": "gone"},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any]) -> None:
    """Invalid values are refused at startup."""
    with pytest.raises(ValidationError):
        settings(**values)
