"""The cells: each is one way of calling, one load and one model. All figures of a run are reported by cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

Kind = Literal["direct", "wait", "poll", "stream", "kafka", "chat", "chat-stream", "responses-stream"]
# Of them, OpenAI's APIs.
OPENAI: tuple[Kind, ...] = ("chat", "chat-stream", "responses-stream")
# A closed loop: this many clients, each of which asks again once it is answered.
CLIENTS = (64, 256, 1024)
LATENCIES_MS = (0, 50, 1000)


@dataclass(frozen=True)
class Cell:
    """One load: ``clients`` of a closed loop, or ``rate`` of an open one in requests per second; the other is 0.

    The model is silent for ``llm_ms``, then sends ``tokens`` tokens, ``gap_ms`` apart.
    """

    name: str
    kind: Kind
    clients: int = 0
    rate: float = 0.0
    llm_ms: float = 50.0
    tokens: int = 1
    gap_ms: float = 0.0

    @property
    def llm_seconds(self) -> float:
        """Seconds that the model takes for a whole answer."""
        return (self.llm_ms + self.gap_ms * (self.tokens - 1)) / 1000


def _closed(clients: int, llm_ms: float) -> Cell:
    return Cell(f"closed-{clients}x{llm_ms:.0f}ms", "wait", clients, llm_ms=llm_ms)


def _streams(clients: int, kind: Kind = "stream") -> Cell:
    return Cell(f"{kind}-{clients}", kind, clients, tokens=33, gap_ms=20)


LIGHT = 50.0
WARM_UP = Cell("warm-up", "wait", 64)
CELLS = (
    # The model alone, without us: what the harness itself adds and can sustain.
    Cell("direct-light", "direct", rate=LIGHT),
    Cell("direct-256x50ms", "direct", 256),
    Cell("light", "wait", rate=LIGHT),
    *(_closed(clients, llm_ms) for llm_ms in LATENCIES_MS for clients in CLIENTS),
    Cell("open-300", "wait", rate=300),
    Cell("open-600", "wait", rate=600),
    Cell("poll-light", "poll", rate=LIGHT),
    Cell("poll-256x50ms", "poll", 256),
    _streams(64),
    _streams(512),
    Cell("kafka-light", "kafka", rate=LIGHT),
    Cell("kafka-256x50ms", "kafka", 256),
    # The same by OpenAI's APIs.
    Cell("chat-light", "chat", rate=LIGHT),
    Cell("chat-256x50ms", "chat", 256),
    _streams(64, "chat-stream"),
    _streams(512, "chat-stream"),
    _streams(64, "responses-stream"),
    _streams(512, "responses-stream"),
)
QUICK = ("light", "closed-256x50ms", "open-300", "poll-256x50ms", "stream-64", "kafka-256x50ms")


def chosen(patterns: Sequence[str]) -> list[Cell]:
    """The cells whose names match any of the patterns, in the order of ``CELLS``. Raises ``ValueError``."""
    if strange := [each for each in patterns if not any(fnmatchcase(cell.name, each) for cell in CELLS)]:
        raise ValueError(f"no cell is called {', '.join(strange)}; there are {', '.join(cell.name for cell in CELLS)}")
    return [cell for cell in CELLS if any(fnmatchcase(cell.name, each) for each in patterns)]
