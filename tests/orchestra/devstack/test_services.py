"""Promises of orchestra/devstack/services.py: the settings that our own services get when a stack starts them."""

from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from gateway.settings import GatewaySettings
from llm_service.settings import LlmServiceSettings
from orchestra.devstack import services
from orchestra.devstack.choice import Choice
from orchestra.devstack.folder import DataFolder
from orchestra.devstack.part import Part
from orchestra.devstack.ports import Ports
from orchestra.devstack.services import gateway_part, llm_part, shared_environment, worker_part
from workers.settings import WorkerSettings


def test_each_worker_shows_its_metrics_on_a_port_of_its_own() -> None:
    """Metrics ports go from 9464 up, unless a worker's port is set."""
    ports = [worker_part({}, number, Path("ready"), Ports()).env["METRICS_PORT"] for number in (1, 2, 3)]

    assert ["9464", "9465", "9466"] == ports
    assert "1234" == worker_part({"METRICS_PORT": "1234"}, 1, Path("ready"), Ports()).env["METRICS_PORT"]


def environment(folder: Path) -> dict[str, str]:
    made = DataFolder.at(folder)
    made.create()
    return shared_environment(Ports(), "postgres://", made, Choice("embedded", "smollm2"))


def test_each_stack_has_tokens_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The LLM service and the model ask for tokens: the same after a restart, others elsewhere, never the secret."""
    monkeypatch.delenv("LLM_SERVICE_TOKEN", raising=False)
    names = ("LLM_SERVICE_TOKEN", "EMBEDDED_API_KEY", "ORCHESTRA_SECRET")
    first, again, other = (environment(tmp_path / name) for name in ("one", "one", "two"))

    assert [first[name] for name in names] == [again[name] for name in names]
    assert 6 == len({each[name] for each in (first, other) for name in names})
    for part in (llm_part(first, 1), worker_part(first, 1, Path("ready"), Ports())):
        assert first["LLM_SERVICE_TOKEN"] == part.env["LLM_SERVICE_TOKEN"]
        assert not any(first["LLM_SERVICE_TOKEN"] in word for word in part.command)


@pytest.mark.parametrize("token", ["theirs", ""])
def test_a_token_of_the_callers_goes_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """The caller's token for the LLM service wins over a generated one; an empty one means that none is required."""
    monkeypatch.setenv("LLM_SERVICE_TOKEN", token)

    assert token == environment(tmp_path / "one")["LLM_SERVICE_TOKEN"]


def parts(shared: dict[str, str]) -> list[tuple[Part, type[BaseSettings]]]:
    """A part of each kind, and what its process reads."""
    return [
        (llm_part(shared, 1), LlmServiceSettings),
        (worker_part(shared, 1, Path("ready"), Ports()), WorkerSettings),
        (gateway_part(shared, 1, 1, 2), GatewaySettings),
    ]


def test_each_part_is_told_what_it_reads_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among settings that a stack shares, and all credentials, no process has those that only another one reads."""
    read = {name.upper() for _, settings in parts({}) for name in settings.model_fields}
    credentials = {name for name in read if name.endswith(("_KEY", "_TOKEN", "_SECRET", "_OLD", "_PASSWORD"))}
    # All parts have these: Bedrock's library reads them in the LLM service.
    credentials -= {name for name in credentials if name.startswith("AWS_")}
    for name in {*credentials, *services._PASSED_ON, "DATABASE_URL"}:
        monkeypatch.setenv(name, "canary")
    shared = environment(tmp_path / "one")
    told = {*shared, *credentials} - {name for name in credentials if name.startswith("KAFKA_")}

    for part, settings in parts(shared):
        fields = {name.upper() for name in settings.model_fields}
        assert told & fields == told & part.env.keys(), part.name
        assert not [name for name in part.env if name.startswith("KAFKA_SASL")]
