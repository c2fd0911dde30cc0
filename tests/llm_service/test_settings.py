from pathlib import Path

import pytest

from llm_service.settings import LlmServiceSettings
from orchestra.settings import load


def test_the_environment_is_read_by_its_documented_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting is found under the name that the interface gives it; an empty variable counts as unset."""
    for name, value in {
        "PORT": "9000",
        "LLM_PROVIDER": "openai",
        "LLM_MODEL": "gpt",
        "OPENAI_BASE_URL": "https://example.test/v1",
        "OPENAI_API_KEY": "key",
        "MODELS_FILE": "models.toml",
        "LLM_SERVICE_TOKEN": "",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load(LlmServiceSettings)

    assert (settings.port, settings.llm_provider, settings.llm_model) == (9000, "openai", "gpt")
    assert (settings.openai_base_url, settings.models_file) == ("https://example.test/v1", Path("models.toml"))
    assert settings.token is None
    assert "key" not in repr(settings.openai_api_key)


@pytest.mark.parametrize(
    ("environment", "allowed"),
    [
        ({"HOST": "127.0.0.1"}, True),
        ({"HOST": "0.0.0.0"}, False),
        ({"HOST": "0.0.0.0", "LLM_SERVICE_TOKEN": "t"}, True),
        ({"HOST": "0.0.0.0", "OPEN_MODE": "true"}, True),
    ],
)
def test_an_open_address_needs_a_token_or_open_mode(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environment: dict[str, str], *, allowed: bool
) -> None:
    """Beyond loopback the service refuses to start without a rule for callers, in one line and with exit code 78."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if allowed:
        assert load(LlmServiceSettings).host == environment["HOST"]
        return
    with pytest.raises(SystemExit) as stopped:
        load(LlmServiceSettings)

    assert stopped.value.code == 78
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:80", "http://x/v1?key=1", "http://x y"])
def test_an_address_must_be_http(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """A base URL that is no plain HTTP address stops the service at start."""
    monkeypatch.setenv("OLLAMA_BASE_URL", url)
    with pytest.raises(SystemExit):
        load(LlmServiceSettings)
