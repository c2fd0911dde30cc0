"""The first screen of `orchestra top`: what needs an operator, the numbers of now, and the list of requests."""

from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

from rich.text import Text
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Input, Static

from orchestra.cli.top.lines import cells, needs, now_of, one_line, panel_lines, tile_lines
from orchestra.cli.top.screens import Confirm, Detail
from orchestra.cli.top.search import read_filter
from orchestra.cli.top.seen import REQUESTS, Feed
from orchestra.cli.top.tiles import tiles
from schemas.api.requests import ListedRequest

_MAX_WIDTH = 120
_COLUMNS = ("request", "status", "prio", "waited", "model", "owner", "ran", "error")


class Overview(Screen[None]):
    """Shows what a feed has seen. The list stays where it is: the cursor follows its request."""

    DEFAULT_CSS = """
    #state, #needs, #tiles, #panels { height: auto; padding: 0 1; }
    #needs { max-height: 6; }
    #panels { display: none; margin-top: 1; }
    Overview.-tall #panels { display: block; }
    #filter { display: none; border: none; height: 1; padding: 0 1; }
    #requests { height: 1fr; margin-top: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("j", "move(1)", "Next"),
        ("k", "move(-1)", "Previous"),
        # Taken before the list gets them. Its own enter is not in the footer; what is pasted behind a slash is in the
        # field and acts on nothing.
        Binding("enter", "open", "Open", key_display="enter", priority=True),
        Binding("slash", "filter", "Filter", priority=True),
        ("escape", "leave_filter", ""),
        ("c", "act('cancel')", "Cancel"),
        ("r", "act('retry')", "Retry"),
    ]

    def __init__(self, gateway: str, feed: Feed) -> None:
        super().__init__()
        self._gateway = gateway
        self._feed = feed
        self._rows: Sequence[ListedRequest] = ()

    def compose(self) -> ComposeResult:
        """The parts of the screen."""
        for name in ("state", "needs", "tiles", "panels"):
            yield Static(id=name, markup=False)
        table: DataTable[Text] = DataTable(id="requests", cursor_type="row")
        table.add_columns(*_COLUMNS)
        yield table
        yield Input(id="filter", placeholder="an id, or model:llama3 state:failed; nothing for all")
        yield Footer()

    def on_mount(self) -> None:
        """Begin."""
        self._table.focus()

    def show(self) -> None:
        """Show what was seen."""
        with suppress(NoMatches):  # Before its parts are there, and while they are taken away at the end.
            self._show()

    def _show(self) -> None:
        seen, width, problem = self._feed.seen, min(self.app.size.width - 2, _MAX_WIDTH), self._feed.problem
        state = f"{self._gateway}: {self._feed.connection}{f'; no list: {problem}' if problem else ''}"
        parts = {
            "state": [Text(one_line(state), "" if self._feed.is_live else "bold yellow")],
            "needs": needs(seen, now_of(seen)),
            "tiles": [*tile_lines(tiles(seen), width)],
            "panels": [*panel_lines(seen, width)],
        }
        for name, lines in parts.items():
            self.query_one(f"#{name}", Static).update(Text("\n").join(lines))
        if not self._feed.frozen:
            self._show_rows(seen.requests)

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self._table.move_cursor(row=self._table.cursor_row + by)

    def action_open(self) -> None:
        """Show the request at the cursor. In the filter enter ends it."""
        if self.focused is self._field:
            raise SkipAction
        self.on_data_table_row_selected()

    def action_filter(self) -> None:
        """Type a filter, in which `/` is a character."""
        if self.focused is self._field:
            raise SkipAction
        self._field.display = True
        self.set_focus(self._field)  # At once: ``Input.focus`` would be later than the next key.

    def action_leave_filter(self) -> None:
        """Go back to the list."""
        self._field.display = bool(self._feed.filter)
        self._table.focus()

    def on_input_submitted(self, submitted: Input.Submitted) -> None:
        """List what the filter says; one that says nothing can be corrected."""
        try:
            self._feed.filter = read_filter(submitted.value)
        except ValueError as error:
            self.notify(one_line(str(error)), severity="error", markup=False)
            return
        self._feed.load_now(REQUESTS)
        self.action_leave_filter()

    def on_data_table_row_selected(self) -> None:
        """Show the request at the cursor."""
        if row := self._chosen:
            self.app.push_screen(Detail(row.id, self._feed))

    def action_act(self, verb: str) -> None:
        """Cancel or retry the request at the cursor, after a confirmation."""
        if row := self._chosen:
            self.app.push_screen(Confirm(verb, row.id, self._feed))

    @property
    def _chosen(self) -> ListedRequest | None:
        at = self._table.cursor_row
        return self._rows[at] if at < len(self._rows) else None

    @property
    def _table(self) -> DataTable[Text]:
        return self.query_one(DataTable)

    @property
    def _field(self) -> Input:
        return self.query_one(Input)

    def _show_rows(self, rows: Sequence[ListedRequest]) -> None:
        table, here, ids = self._table, self._chosen, [row.id for row in rows]
        if ids == [row.id for row in self._rows]:
            for at, row in enumerate(rows):
                for column, cell in enumerate(cells(row)):
                    table.update_cell_at(Coordinate(at, column), cell)
        else:
            table.clear()
            for row in rows:
                table.add_row(*cells(row))
            if here and here.id in ids:
                table.move_cursor(row=ids.index(here.id))
        self._rows = rows
