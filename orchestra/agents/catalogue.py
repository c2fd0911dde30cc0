"""The available agents: those that ship with the project, and those of the operator's folder."""

import tomllib
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from orchestra.agents.answer_schema import AnswerSchema
from orchestra.settings import AgentSettings, refuse_to_start
from schemas.agents import Agent
from schemas.errors import ErrorCode, OrchestraError
from schemas.invalid import problems_of

SHIPPED = Path(__file__).parent


class AgentFileError(Exception):
    """A file that is not a valid agent: one line that names the file and, where it applies, the field."""


class Agents:
    """All agents by name. Read once: a changed file takes effect at the next start."""

    def __init__(self, found: Iterable[tuple[Agent, AnswerSchema | None]]) -> None:
        self._by_name = {agent.name: (agent, schema) for agent, schema in found}

    @property
    def all(self) -> list[Agent]:
        """Sorted by name."""
        return [agent for _, (agent, _) in sorted(self._by_name.items())]

    @classmethod
    def load(cls, folder: Path | None) -> "Agents":
        """The agents that ship, then those of the folder: a file replaces an agent of the same name.

        Raises ``AgentFileError``.
        """
        files = {file.stem: file for place in (SHIPPED, folder) if place for file in _files(place)}
        return cls(_read(file) for file in files.values())

    def find(self, name: str | None) -> Agent | None:
        """The agent with this name; None if there is none."""
        return self._by_name.get(name or "", (None, None))[0]

    def check(self, name: str | None) -> None:
        """Raise ``OrchestraError(UNKNOWN_AGENT)`` for a name without an agent. No name is valid."""
        if name and name not in self._by_name:
            raise OrchestraError(ErrorCode.UNKNOWN_AGENT)

    def answer_schema(self, name: str | None) -> AnswerSchema | None:
        """The schema that this agent's answers must match, if any."""
        return self._by_name.get(name or "", (None, None))[1]


def load_agents(settings: AgentSettings) -> Agents:
    """The agents. Exits the process with one clear line if a file is invalid."""
    try:
        return Agents.load(settings.agents_dir)
    except AgentFileError as error:
        refuse_to_start(str(error))


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if file.suffix == ".toml" and file.name[0] != ".")
    except OSError as error:
        raise AgentFileError(f"agents folder {folder}: {error.strerror}") from None


def _read(file: Path) -> tuple[Agent, AnswerSchema | None]:
    try:
        fields = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise AgentFileError(f"agent {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise AgentFileError(f"agent {file}: is not TOML in UTF-8: {error}") from None
    if "name" in fields:
        raise AgentFileError(f"agent {file}: name: is taken from the file name, and may not be a field")
    try:
        agent = Agent.model_validate({**fields, "name": file.stem}, strict=True)
        return agent, None if agent.answer_schema is None else AnswerSchema(agent.answer_schema)
    except ValidationError as error:
        raise AgentFileError(f"agent {file}: {_first(error)}") from None
    except ValueError as error:
        raise AgentFileError(f"agent {file}: answer_schema: {error}") from None


def _first(error: ValidationError) -> str:
    problem = problems_of(error)[0]
    if problem["loc"] == ("name",):
        return "the name of the file must be of a-z, 0-9, _ and -, begin with a letter or digit, and have at most 64"
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
