"""What `orchestra top` shows, as lines of text. Names and texts of callers are harmless and of one line here."""

import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import zip_longest

from rich.cells import set_cell_size
from rich.text import Text

from orchestra.cli.format import brief, clock
from orchestra.cli.operations import slots_of, state_of
from orchestra.cli.requests import error_of, ran, waited
from orchestra.cli.terminal import harmless
from orchestra.cli.top.findings import findings
from orchestra.cli.top.seen import Seen
from orchestra.cli.top.tiles import Tile, tiles
from schemas.api.live import LiveFrame
from schemas.api.queue import QueueState
from schemas.api.requests import ListedRequest
from schemas.api.workers import WorkerList

WIDTH = 80
_TILES = 4
_MOST = 3
_ROWS = 10
_MARKS = {"bad": ("✗", "bold red"), "warn": ("!", "yellow"), "info": ("·", "dim")}
_COLUMNS = (("request", 36), ("status", 11), ("prio", 4), ("waited", 6), ("model", 19))
STYLES = {"completed": "green", "failed": "red", "in_progress": "cyan", "pending": "yellow"}


def page(seen: Seen, gateway: str) -> Iterator[str]:
    """One frame as plain text, of 80 columns."""
    now = now_of(seen)
    yield fitted(f"{gateway}, {clock(now)}", WIDTH).rstrip()
    yield ""
    if isinstance(seen.frame, LiveFrame):
        yield "What needs you"
        for each in needs(seen, now):
            yield from textwrap.wrap(each.plain, WIDTH, initial_indent="  ", subsequent_indent="    ")
        yield ""
    blocks = [*tile_lines(tiles(seen), WIDTH), Text(), *panel_lines(seen, WIDTH)]
    yield from (line.plain.rstrip() for line in blocks)
    yield ""
    yield " ".join(fitted(title, width) for title, width in _COLUMNS).rstrip()
    for row in seen.requests[:_ROWS]:
        cells = (f"{row.id}", row.status, _number(row.priority), brief(waited(row)), row.model or "-")
        yield " ".join(fitted(cell, width) for cell, (_, width) in zip(cells, _COLUMNS, strict=True)).rstrip()
    if not seen.requests:
        yield "There is no request."


def now_of(seen: Seen) -> datetime:
    """The time of the last frame."""
    return seen.frame.at if seen.frame else datetime.now(UTC)


def needs(seen: Seen, now: datetime) -> list[Text]:
    """What needs an operator, or that nothing does."""
    if not isinstance(seen.frame, LiveFrame):
        return []
    found = findings(seen, now)
    lines = [Text.assemble(_MARKS[each.kind], " ", one_line(each.text)) for each in found]
    return lines or [Text("Nothing needs you.", "green")]


def tile_lines(shown: Sequence[Tile], width: int) -> Iterator[Text]:
    """The numbers, four beside each other: their names, their values, and what else is known of them."""
    size = width // _TILES
    for start in range(0, len(shown), _TILES):
        row = shown[start : start + _TILES]
        yield Text.assemble(*((fitted(each.name, size), "dim") for each in row))
        yield Text.assemble(*((fitted(each.value, size), "bold red" if each.alarming else "bold") for each in row))
        if any(each.note for each in row):
            yield Text.assemble(*((fitted(each.note, size), "dim") for each in row))


def panel_lines(seen: Seen, width: int) -> Iterator[Text]:
    """For operators: what waits by model, the longest first, and beside it the workers."""
    size = width // 2
    sides = (_by_model(seen.queue, size - 2), _workers(seen.workers, size - 2))
    for number, pair in enumerate(zip_longest(*sides, fillvalue="")):
        yield Text("  ".join(set_cell_size(each, size - 2) for each in pair), "" if number else "dim")


def _by_model(queue: QueueState | None, width: int) -> list[str]:
    if queue is None:
        return []
    lines = [f"{fitted('Model', width - 18)}{'runnable':>9}{'oldest':>9}"]
    for each in queue.by_model[:_MOST]:
        name = fitted("all others" if each.model is None else each.model, width - 18)
        lines.append(f"{name}{each.runnable:>9,}{brief(each.oldest_seconds):>9}")
    return lines if queue.by_model else [*lines, "Nothing waits."]


def _workers(workers: WorkerList | None, width: int) -> list[str]:
    if workers is None:
        return []
    lines = [f"{fitted('Worker', width - 22)}{'state':>9}{'slots':>13}"]
    lines += (
        f"{fitted(f'{each.id}', width - 22)}{state_of(each):>9}{slots_of(each):>13}" for each in workers.data[:_MOST]
    )
    more = len(workers.data) - _MOST
    return [*lines, f"and {more} more"] if more > 0 else lines


def cells(row: ListedRequest) -> list[Text]:
    """A request in the list on a terminal."""
    status = "cancelling" if row.cancel_requested and row.finished_at is None else row.status
    texts = [
        Text(f"{row.id}"),
        Text(status, STYLES.get(row.status, "dim")),
        Text(_number(row.priority), justify="right"),
        Text(brief(waited(row)), justify="right"),
        Text(fitted(row.model or "-", 16)),
        Text(fitted(row.owner or "-", 10)),
        Text(brief(ran(row)), justify="right"),
    ]
    return [*texts, Text(one_line(error_of(row) or ""))]


def one_line(text: str) -> str:
    """Harmless text without line breaks."""
    return " ".join(harmless(text).split())


def fitted(text: str, width: int) -> str:
    """Harmless text of one line, cut or filled to this many columns of a terminal."""
    text = one_line(text)
    cut = set_cell_size(text, width)
    return cut if cut.rstrip() == text else f"{set_cell_size(text, width - 1)}…"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value}"
