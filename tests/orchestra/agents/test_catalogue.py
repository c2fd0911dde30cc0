"""Promises of orchestra/agents/catalogue.py: which agents there are, and how a bad file is reported."""

from pathlib import Path

import pytest

from orchestra.agents.catalogue import SHIPPED, AgentFileError, Agents, load_agents
from orchestra.settings import AgentSettings, load
from schemas.errors import ErrorCode, OrchestraError

NAMES = ["analyst", "code_generation", "interviewer", "programmer", "summarization", "translation"]
PLAIN = 'description = "Says something."\nsystem = "Say something."\n'


def folder(tmp_path: Path, **files: str) -> Path:
    """A folder with these agents."""
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text, "utf-8")
    return tmp_path


def test_six_agents_ship() -> None:
    """The task types of the old system, each with words of its own; none wants a model or a form of answer."""
    agents = Agents.load(None)

    assert NAMES == [agent.name for agent in agents.all] == sorted(file.stem for file in SHIPPED.glob("*.toml"))
    assert 6 == len({agent.system for agent in agents.all}) == len({agent.description for agent in agents.all})
    assert {(None, None)} == {(agent.model, agents.answer_schema(agent.name)) for agent in agents.all}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("summarization", "Summarize the following text"),
        ("translation", "Translate the following text into English"),
        ("code_generation", "Write code"),
        ("analyst", "You are a data analyst"),
        ("interviewer", "interview"),
        ("programmer", "programmer"),
    ],
)
def test_a_shipped_agent_says_what_it_is_for(name: str, words: str) -> None:
    """Instructions are on one line, because a line break in the file is not one in the prompt."""
    agent = Agents.load(None).find(name)

    assert agent
    assert words in agent.system
    assert "\n" not in agent.system.strip()


def test_the_operators_folder_goes_over_what_ships(tmp_path: Path) -> None:
    """A file of a shipped name takes its place, others add; what is no agent file is left alone."""
    poet = 'model = "m"\ntemperature = 1\nstop = ["END"]\n[answer_schema]\ntype = "object"\n'
    own = folder(tmp_path, translation='description = "To French."\nsystem = "Traduis."\n', poet=PLAIN + poet)
    (own / "README.md").write_text("no agent")
    (own / ".poet.toml").write_text("of an editor")

    agents = Agents.load(own)

    assert sorted([*NAMES, "poet"]) == [agent.name for agent in agents.all]
    translation, found = agents.find("translation"), agents.find("poet")
    assert translation
    assert "Traduis." == translation.system
    assert found
    assert ("m", 1.0, ["END"], None) == (found.model, found.temperature, found.stop, found.max_tokens)
    assert (schema := agents.answer_schema("poet"))
    assert '{"type": "object"}' == schema.text


def test_only_a_name_that_is_none_is_unknown() -> None:
    """A request that names no agent has none, which is fine."""
    agents = Agents.load(None)
    agents.check(None)
    agents.check("analyst")
    assert agents.find(None) is agents.find("nobody") is None

    with pytest.raises(OrchestraError) as refused:
        agents.check("nobody")

    assert ErrorCode.UNKNOWN_AGENT is refused.value.code


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("description = ", "is not TOML in UTF-8: "),
        ('description = "d"', "system: "),
        ('description = ""\nsystem = "s"', "description: "),
        (PLAIN + 'name = "poet"', "name: is taken from the file name"),
        (PLAIN + "max_token = 5", "max_token: "),
        (PLAIN + "max_tokens = 0", "max_tokens: "),
        (PLAIN + 'max_tokens = "5"', "max_tokens: "),
        (PLAIN + "temperature = true", "temperature: "),
        (PLAIN + "temperature = 2.5", "temperature: "),
        (PLAIN + "stop = [1]", "stop.0: "),
        (PLAIN + 'model = ""', "model: "),
        (PLAIN + 'answer_schema = "{}"', "answer_schema: "),
        (PLAIN + '[answer_schema]\ntype = "strng"', "answer_schema: at $.type: "),
        (PLAIN + '[answer_schema]\n"$ref" = "https://example.com/s"', "answer_schema: $ref must begin with '#'"),
        (PLAIN + '[answer_schema]\ntitle = "\\u0000"', "answer_schema: "),
        (PLAIN + f"[answer_schema.{'.'.join('x' * 101)}]", "answer_schema: "),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path: Path, text: str, field: str) -> None:
    """Which file, which field, what is wrong with it."""
    own = folder(tmp_path, poet=text)

    with pytest.raises(AgentFileError) as refused:
        Agents.load(own)

    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"agent {own / 'poet.toml'}: {field}")


@pytest.mark.parametrize("name", ["Poet", "-poet", "poét", "a" * 65, "po et"])
def test_a_file_name_must_be_one_that_a_request_can_say(tmp_path: Path, name: str) -> None:
    """An agent under any other name could not be asked for."""
    with pytest.raises(AgentFileError, match="the name of the file must be"):
        Agents.load(folder(tmp_path, **{name: PLAIN}))


def test_what_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    """Bytes that are no text, a folder in the place of a file, a folder that is gone."""
    (tmp_path / "latin.toml").write_bytes('description = "é"'.encode("latin-1"))
    with pytest.raises(AgentFileError, match=r"latin\.toml: is not TOML in UTF-8"):
        Agents.load(tmp_path)
    (tmp_path / "a.toml").mkdir()
    with pytest.raises(AgentFileError, match=r"a\.toml: Is a directory"):
        Agents.load(tmp_path)
    with pytest.raises(AgentFileError, match="No such file"):
        Agents.load(tmp_path / "gone")


def test_a_bad_file_ends_the_process_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the exit code of a bad configuration and no stack trace."""
    settings = AgentSettings(agents_dir=folder(tmp_path, poet=PLAIN + "max_token = 5"))

    with pytest.raises(SystemExit) as ended:
        load_agents(settings)

    said = capsys.readouterr().err
    assert (78, 1) == (ended.value.code, len(said.splitlines()))
    assert "poet.toml: max_token: " in said


def test_a_folder_that_is_none_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad folder is reported with the setting's name; an empty setting means that there is no folder."""
    monkeypatch.setenv("AGENTS_DIR", "")
    assert load(AgentSettings).agents_dir is None
    monkeypatch.setenv("AGENTS_DIR", str(tmp_path / "gone"))

    with pytest.raises(SystemExit) as ended:
        load(AgentSettings)

    assert 78 == ended.value.code
    assert capsys.readouterr().err.startswith("setting AGENTS_DIR: ")
