"""The question of a benchmark request and its only right answer, by a rule that the caller and the model share."""

from dataclasses import dataclass, field

MODEL = "fake"
PIECE = " word"
# A question that begins with it gets an answer without an end.
SLOW = "slow"
_ASKS = "What do you say to a question that no one has asked before, and that no two callers share?"


@dataclass(frozen=True)
class Asking:
    """Parameters of the callers. ``tag``: unique to the run, 8 hexadecimal digits.

    ``keys``: API keys, used in turn; without any, calls have no credentials. ``goes_on``: each request continues the
    existing ``conversation`` of its number; without it each starts a new one.
    """

    tag: str
    keys: list[str] = field(default_factory=list)
    goes_on: bool = False


def conversation(tag: str, number: int) -> str:
    """The id of the conversation that a request continues."""
    return f"{tag}-0000-8000-8000-{number:012x}"


def question(tag: str, number: int) -> str:
    """The text of one request. Its first word is unique as long as ``tag`` is unique to the run."""
    return f"{tag}-{number} {_ASKS}"


def pieces(text: str, tokens: int) -> list[str]:
    """The answer to a question, token by token: the question's own word, then words shared by all answers."""
    return [text.partition(" ")[0], *[PIECE] * (tokens - 1)]


def answer(text: str, tokens: int) -> str:
    """The whole answer to a question."""
    return "".join(pieces(text, tokens))
