from pathlib import Path

import pytest

from llm_service.providers.openai_compatible import OpenAICompatible
from llm_service.providers.simulated import Simulated
from llm_service.registry import Registry, build_registry
from llm_service.settings import LlmServiceSettings
from schemas.errors import ErrorCode, OrchestraError


def _registry(environment: dict[str, str] | None = None, **values: object) -> Registry:
    return build_registry(LlmServiceSettings.model_validate(values), environment or {})


def _asked(provider: object) -> tuple[str, str | None]:
    assert isinstance(provider, OpenAICompatible)
    return provider._url, provider._client.headers.get("authorization")


@pytest.mark.parametrize("name", ["", "llama3", "smollm2"])
def test_name_alias_and_no_name_lead_to_the_same_model(name: str) -> None:
    """The default, its alias and its name are one model under one upstream name."""
    assert _registry().resolve(name).upstream == "smollm2"


@pytest.mark.parametrize("name", ["gpt-4o", "smollm2:tokens=3", "SMOLLM2", "*"])
def test_an_unknown_name_is_refused(name: str) -> None:
    """Without a provider to ask, a name that is in no table is `unknown_model`."""
    with pytest.raises(OrchestraError) as refused:
        _registry().resolve(name)

    assert refused.value.code == ErrorCode.UNKNOWN_MODEL


@pytest.mark.parametrize("name", ["simulated:tokens=3", "llama3:tokens=3"])
def test_a_simulated_model_takes_options_behind_its_name(name: str) -> None:
    """Options reach the simulated provider under the model's name or alias."""
    model = _registry(llm_provider="simulated").resolve(name)

    assert (type(model.provider), model.upstream, model.label) == (Simulated, name, "simulated")


def test_any_name_reaches_a_provider_that_knows_its_own_models() -> None:
    """Ollama is asked for any name, at its `/v1`, and the name never becomes a label."""
    model = _registry(llm_provider="ollama", ollama_base_url="http://127.0.0.1:1/").resolve("llama3.2:1b")

    assert (model.upstream, model.label) == ("llama3.2:1b", "other")
    assert _asked(model.provider) == ("http://127.0.0.1:1/v1/chat/completions", None)


def test_a_key_goes_only_to_the_server_it_is_for(tmp_path: Path) -> None:
    """`OPENAI_API_KEY` is sent to `OPENAI_BASE_URL`; another address gets the key named beside it, or none."""
    path = tmp_path / "models.toml"
    shape = '[[models]]\nname="{}"\nprovider="openai"\ncontext_tokens=9\nmax_output_tokens=9\n{}\n'
    path.write_text(
        shape.format("ours", "")
        + shape.format("theirs", 'base_url="https://a.test/v1"')
        + shape.format("keyed", 'base_url="https://a.test/v1"\napi_key_env="THEIR_KEY"'),
        encoding="utf-8",
    )
    registry = _registry({"THEIR_KEY": "t"}, llm_provider="openai", openai_api_key="o", models_file=path)

    assert _asked(registry.resolve("ours").provider) == ("https://api.openai.com/v1/chat/completions", "Bearer o")
    assert _asked(registry.resolve("theirs").provider) == ("https://a.test/v1/chat/completions", None)
    assert _asked(registry.resolve("keyed").provider) == ("https://a.test/v1/chat/completions", "Bearer t")


def test_models_of_one_server_share_its_connections() -> None:
    """One provider serves all models with the same address and key."""
    registry = _registry(llm_provider="openai")

    assert registry.resolve("llama3").provider is registry.resolve("anything").provider


def test_the_listing_tells_names_limits_and_the_default() -> None:
    """`GET /models` shows what a caller may ask for and what holds for names that are not listed."""
    listing = _registry(llm_provider="openai", llm_model="gpt").listing()

    assert [model.name for model in listing.data] == ["gpt", "simulated"]
    assert listing.default == "gpt"
    assert listing.other
    assert listing.other.context_tokens == 128_000
    assert _registry().listing().other is None
