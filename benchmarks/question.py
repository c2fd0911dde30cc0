"""What a request of a benchmark asks, and the only right answer to it: the caller and the model both know the rule."""

from dataclasses import dataclass, field

PIECE = " word"
_ASKS = "What do you say to a question that nobody has asked before, and that no two callers share?"


@dataclass(frozen=True)
class Asking:
    """Who asks, and where. ``tag`` is the run's own, 8 hexadecimal digits.

    ``keys`` of the gateway are shown in turn; without any no call has credentials. ``goes_on``: each request goes on
    with the ``conversation`` of its number, which is there; without it each begins one.
    """

    tag: str
    keys: list[str] = field(default_factory=list)
    goes_on: bool = False


def conversation(tag: str, number: int) -> str:
    """The id of the conversation with which one request goes on."""
    return f"{tag}-0000-8000-8000-{number:012x}"


def question(tag: str, number: int) -> str:
    """The text of one request. Its first word is nobody else's as long as ``tag`` is the run's own."""
    return f"{tag}-{number} {_ASKS}"


def pieces(text: str, tokens: int) -> list[str]:
    """The answer to a question, token by token: the question's own word, then words that all answers share."""
    return [text.partition(" ")[0], *[PIECE] * (tokens - 1)]


def answer(text: str, tokens: int) -> str:
    """The whole answer to a question."""
    return "".join(pieces(text, tokens))
