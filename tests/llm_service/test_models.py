from pathlib import Path

import pytest

from llm_service.models import ANY_OTHER, ModelsFileError, pass_through, table
from llm_service.settings import LlmServiceSettings

ENTRY = """
[[models]]
name = "qwen"
aliases = ["llama3"]
provider = "vllm"
base_url = "http://127.0.0.1:9/v1"
context_tokens = 32768
max_output_tokens = 4096
"""


def _settings(**values: object) -> LlmServiceSettings:
    keys = {f"{provider}_api_key": "key" for provider in ("openai", "anthropic", "gemini")}
    return LlmServiceSettings.model_validate(keys | values)


def _file(folder: Path, text: str) -> LlmServiceSettings:
    path = folder / "models.toml"
    path.write_text(text, encoding="utf-8")
    return _settings(models_file=path)


@pytest.mark.parametrize(
    ("provider", "names"),
    [
        ("embedded", [("smollm2", ("llama3",)), ("simulated", ())]),
        ("simulated", [("simulated", ("llama3",))]),
        ("auto", [("simulated", ("llama3",))]),
        ("ollama", [("llama3", ()), ("simulated", ())]),
        ("openai", [("llama3", ()), ("simulated", ())]),
        ("anthropic", [("llama3", ()), ("simulated", ())]),
        ("gemini", [("llama3", ()), ("simulated", ())]),
    ],
)
def test_every_provider_answers_to_the_old_name(provider: str, names: list[tuple[str, tuple[str, ...]]]) -> None:
    """`llama3`, which old clients ask for, is in every built-in table, and so is `simulated`."""
    assert [(entry.name, entry.aliases) for entry in table(_settings(llm_provider=provider))] == names


def test_the_limits_of_the_embedded_model_follow_its_server() -> None:
    """Context and slots are those the model's server is run with, and an answer leaves room for history."""
    entry = table(_settings(embedded_context_tokens=8192, embedded_max_concurrency=2))[0]

    assert (entry.context_tokens, entry.max_output_tokens, entry.max_concurrency) == (8192, 256, 2)


def test_a_limit_of_the_table_is_told_and_a_guess_is_not(tmp_path: Path) -> None:
    """An operator's settings hold for every call; a model without any has only what the call asks for."""
    listed, guessed = table(_file(tmp_path, ENTRY))[0], pass_through(_settings(llm_provider="openai"))

    assert guessed
    assert [4096, 7, 4096] == [listed.output_limit(asked) for asked in (None, 7, 5000)]
    assert [None, 7, 16_384] == [guessed.output_limit(asked) for asked in (None, 7, 50_000)]


def test_a_models_file_adds_and_takes_over_names(tmp_path: Path) -> None:
    """A name or alias in the file is taken from the built-in model that had it."""
    entries = table(_file(tmp_path, ENTRY))

    assert [(entry.name, entry.aliases) for entry in entries] == [
        ("qwen", ("llama3",)),
        ("smollm2", ()),
        ("simulated", ()),
    ]


def test_unknown_names_are_passed_through_only_without_a_models_file(tmp_path: Path) -> None:
    """A provider elsewhere is asked for any name; with a models file only its names are known."""
    path = _file(tmp_path, ENTRY).models_file
    through = pass_through(_settings(llm_provider="ollama"))

    assert through
    assert through.name == ANY_OTHER
    assert all(pass_through(_settings(llm_provider=name)) for name in ("openai", "anthropic", "gemini"))
    assert pass_through(_settings(llm_provider="ollama", models_file=path)) is None
    assert pass_through(_settings(llm_provider="embedded")) is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("models = ", "is not TOML"),
        ("", "models: is required"),
        (ENTRY + "colour = 1", "models.0.colour: unknown field"),
        (
            ENTRY.replace('"vllm"', '"claude"'),
            "models.0.provider: must be one of embedded, ollama, openai, vllm, openai_compatible, simulated, ant",
        ),
        (ENTRY.replace("base_url", "#"), "needs a base_url"),
        (ENTRY + 'stream_options = "no way"', "models.0.stream_options: must be a valid boolean"),
        (ENTRY.replace("4096", "40960"), "max_output_tokens exceeds"),
        (ENTRY + ENTRY, "the name qwen is there twice"),
    ],
)
def test_a_bad_models_file_is_refused_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    """What is wrong with the file is reported in one line."""
    with pytest.raises(ModelsFileError) as refused:
        table(_file(tmp_path, text))

    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_models_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there is an error, not an empty table."""
    with pytest.raises(ModelsFileError, match="cannot be read"):
        table(_settings(models_file=tmp_path / "none.toml"))


def test_what_a_model_can_do_is_told_by_its_provider_or_the_file(tmp_path: Path) -> None:
    """Whether a model holds an answer to a schema is as its provider does, unless the file says otherwise."""
    claude = ENTRY.replace("vllm", "anthropic").replace("qwen", "claude").replace("llama3", "c")
    rest = (claude.replace('"claude"', '"other"').replace('"c"', '"o"'), ENTRY + "structured_output = false")
    entries = table(_file(tmp_path, claude + "structured_output = true" + "".join(rest)))

    can = {entry.name: entry.info.structured_output for entry in entries}
    assert can == {"claude": True, "other": False, "qwen": False, "smollm2": True, "simulated": True}
    assert [*entries[1].info.model_dump()][-1] == "max_output_tokens"


def test_the_longest_file_is_told_where_the_file_says_it(tmp_path: Path) -> None:
    """Without it, workers use their own limit; it must be positive."""
    small = ENTRY.replace("qwen", "phi").replace("llama3", "p") + "max_inline_bytes = 1000"
    entries = table(_file(tmp_path, ENTRY + small))

    assert [None, 1000] == [entry.info.max_inline_bytes for entry in entries[:2]]
    assert "max_inline_bytes" not in entries[0].info.model_dump()
    with pytest.raises(ModelsFileError, match="max_inline_bytes"):
        table(_file(tmp_path, ENTRY + "max_inline_bytes = 0"))


def test_state_belongs_to_one_provider_at_one_address(tmp_path: Path) -> None:
    """Two servers with the same API are two, and neither is named by its address."""
    other = ENTRY.replace(":9/", ":8/").replace("qwen", "phi").replace("llama3", "p")
    qwen, phi, *_, simulated = table(_file(tmp_path, ENTRY + other))

    assert qwen.origin.startswith("vllm:")
    assert len({qwen.origin, phi.origin, simulated.origin}) == 3
    assert "127.0.0.1" not in qwen.origin
    assert simulated.origin == "simulated"
