from pathlib import Path

import pytest

from llm_service.models import ModelsFileError
from llm_service.providers.openai_compatible import OpenAICompatible
from llm_service.providers.simulated import Simulated
from llm_service.registry import Registry, build_registry
from llm_service.settings import LlmServiceSettings
from schemas.errors import ErrorCode, OrchestraError


def _registry(environment: dict[str, str] | None = None, **values: object) -> Registry:
    return build_registry(LlmServiceSettings.model_validate(values), environment or {})


def _asked(provider: object) -> tuple[str, str | None]:
    assert isinstance(provider, OpenAICompatible)
    address = provider._address
    return f"{address.base_url}/chat/completions", address.headers.get("authorization")


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


def test_a_simulated_model_refuses_options_that_it_does_not_have() -> None:
    """They are the caller's mistake before any model is asked, and no failure of one."""
    for name in ("simulated:canary=3", "llama3:tokens=canary"):
        with pytest.raises(OrchestraError) as refused:
            _registry(llm_provider="simulated").resolve(name)
        assert refused.value.code == ErrorCode.INVALID_REQUEST
        assert "canary" not in refused.value.detail


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


def test_a_provider_of_the_library_gets_its_own_address_and_key(tmp_path: Path) -> None:
    """Anthropic's key goes to Anthropic's address, with or without `/v1`, and to no other."""
    path = tmp_path / "models.toml"
    shape = '[[models]]\nname="{}"\nprovider="anthropic"\ncontext_tokens=9\nmax_output_tokens=9\n{}\n'
    path.write_text(shape.format("ours", "") + shape.format("theirs", 'base_url="https://a.test"'), encoding="utf-8")
    settings = {"anthropic_api_key": "a", "anthropic_base_url": "https://b.test/v1", "models_file": path}
    registry = _registry(openai_api_key="o", **settings)
    clients = [registry.resolve(name).provider._library.client for name in ("ours", "theirs")]  # type: ignore[attr-defined]

    assert [(str(client.base_url), client.api_key) for client in clients] == [
        ("https://b.test", "a"),
        ("https://a.test", "none"),
    ]


def test_models_of_one_server_share_its_connections() -> None:
    """One provider serves all models with the same address and key."""
    registry = _registry(llm_provider="openai", openai_api_key="o")

    assert registry.resolve("llama3").provider is registry.resolve("anything").provider


def test_the_listing_tells_names_limits_and_the_default() -> None:
    """`GET /models` shows what a caller may ask for and what holds for names that are not listed."""
    listing = _registry(llm_provider="openai", openai_api_key="o", llm_model="gpt").listing()

    assert [model.name for model in listing.data] == ["gpt", "simulated"]
    assert listing.default == "gpt"
    assert listing.other
    assert listing.other.context_tokens == 128_000
    assert _registry().listing().other is None


def _table(folder: Path, **fallbacks: list[str]) -> Path:
    shape = '[[models]]\nname = "{}"\naliases = ["{}-too"]\nprovider = "simulated"\nfallbacks = {}\n'
    limits = "context_tokens = 9\nmax_output_tokens = 9\n"
    path = folder / "models.toml"
    path.write_text("".join(shape.format(name, name, names) + limits for name, names in fallbacks.items()))
    return path


def test_a_chain_is_the_model_its_fallbacks_and_theirs(tmp_path: Path) -> None:
    """In this order, each model once, also by an alias; a model without any is a chain of its own."""
    registry = _registry(models_file=_table(tmp_path, a=["b-too", "c"], b=["d"], c=["d", "b"], d=[]))

    assert [model.label for model in registry.chain("a-too")] == ["a", "b", "c", "d"]
    assert [model.label for model in registry.chain("d")] == ["d"]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"a": ["missing"]}, "a: the fallback missing is not a model"),
        ({"a": ["a"]}, "a: the fallback a leads back to it"),
        ({"a": ["a-too"]}, "a: the fallback a-too leads back to it"),
        ({"a": ["b"], "b": ["c"], "c": ["a"]}, "a: the fallback b leads back to it"),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, "b: the fallback c leads back to it"),
    ],
)
def test_a_chain_that_cannot_be_is_refused_at_the_start(
    tmp_path: Path, table: dict[str, list[str]], complaint: str
) -> None:
    """An unknown name or a cycle is reported with the names in it."""
    with pytest.raises(ModelsFileError) as refused:
        _registry(models_file=_table(tmp_path, **table))

    assert str(refused.value) == complaint


def test_the_listing_tells_prices_limits_and_fallbacks(tmp_path: Path) -> None:
    """What was configured of a model, and of the others what is known of all; the rest is absent."""
    path = _table(tmp_path, a=["simulated"])
    more = "price = { input = 1, output = 2.5 }\nmax_concurrency = 3\nrequests_per_minute = 60\n"
    path.write_text(path.read_text() + more)
    first, *others = _registry(models_file=path).listing().model_dump(mode="json")["data"]

    assert {name: first[name] for name in ("price", "max_concurrency", "requests_per_minute", "fallbacks")} == {
        "price": {"input": 1, "output": 2.5},
        "max_concurrency": 3,
        "requests_per_minute": 60,
        "fallbacks": ["simulated"],
    }
    known = ["name", "aliases", "provider", "context_tokens", "max_output_tokens"]
    assert [*others[-1]] == [*known, "structured_output"]


@pytest.mark.parametrize(
    ("values", "offered"),
    [
        ({"llm_provider": "simulated"}, True),
        ({"llm_provider": "embedded"}, True),
        ({"llm_provider": "openai", "openai_api_key": "o"}, False),
        ({"llm_provider": "ollama"}, False),
        ({"llm_provider": "openai", "openai_api_key": "o", "simulated_options": True}, True),
        ({"llm_provider": "simulated", "simulated_options": False}, False),
    ],
    ids=str,
)
def test_callers_say_how_a_simulated_model_behaves_only_where_that_is_offered(
    values: dict[str, object], *, offered: bool
) -> None:
    """Beside real models, options of the simulated model are refused; the plain one, which echoes, is always there."""
    registry = _registry(**values)

    assert "simulated" == registry.resolve("simulated").upstream
    if offered:
        assert "simulated:gap_ms=30000" == registry.resolve("simulated:gap_ms=30000").upstream
    else:
        with pytest.raises(OrchestraError, match="SIMULATED_OPTIONS") as refused:
            registry.resolve("simulated:gap_ms=30000")
        assert ErrorCode.UNKNOWN_MODEL is refused.value.code
