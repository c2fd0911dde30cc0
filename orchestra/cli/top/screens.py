"""Screens of `orchestra top` above the list: one request, a question, the keys."""

from typing import ClassVar
from uuid import UUID

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Static

from orchestra.cli.requests import lines_of
from orchestra.cli.terminal import harmless
from orchestra.cli.top.lines import one_line
from orchestra.cli.top.seen import Feed
from orchestra.client import ClientError

_SECONDS = 2.0
_MAX_LINE = 4000
_KEYS = """\
j k ↓ ↑    next and previous request
enter      all that is known of the request at the cursor, and why it waits
/          filter: an id, or words such as model:llama3 state:failed owner:ada
c          cancel the request
r          retry the request, as a new one
p          freeze what is shown, and go on
?          these keys
escape     close what is on top
q          quit"""


class Detail(Screen[None]):
    """All that is known of one request, kept up to date."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape", "dismiss", "Back"),
        ("j", "move(1)", "Down"),
        ("k", "move(-1)", "Up"),
        ("c", "act('cancel')", "Cancel"),
        ("r", "act('retry')", "Retry"),
    ]

    def __init__(self, id: UUID, feed: Feed) -> None:
        super().__init__()
        self._request = id
        self._feed = feed
        self._looking = False
        self._lines: list[str] = []

    def compose(self) -> ComposeResult:
        """The parts of the screen."""
        with VerticalScroll():
            yield Static("reading …", id="lines", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Begin."""
        self.set_interval(_SECONDS, self._look_again)
        self.run_worker(self._look())

    def action_move(self, by: int) -> None:
        """Scroll."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)

    def action_act(self, verb: str) -> None:
        """Cancel or retry it, after a confirmation."""
        self.app.push_screen(Confirm(verb, self._request, self._feed))

    def _look_again(self) -> None:
        if not (self._feed.frozen or self._looking):
            self.run_worker(self._look())

    async def _look(self) -> None:
        self._looking = True
        failed: list[str] = []
        try:
            self._lines = [*lines_of(*await self._feed.detail(self._request))]
        except ClientError as error:
            failed = [str(error), ""]
        finally:
            self._looking = False
        shown = "\n".join(harmless(line)[:_MAX_LINE] for line in (*failed, *self._lines))
        for part in self.query("#lines").results(Static):  # It may be closed meanwhile.
            part.update(Text(shown))


class Confirm(ModalScreen[None]):
    """Asks before it acts on a request, and says what came of it."""

    DEFAULT_CSS = """
    Confirm, Help { align: center middle; }
    Confirm Static, Help Static { width: auto; max-width: 80; height: auto; padding: 1 2; background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [("y", "act", "Yes"), ("n,escape", "dismiss", "No")]

    def __init__(self, verb: str, id: UUID, feed: Feed) -> None:
        super().__init__()
        self._verb = verb
        self._request = id
        self._feed = feed

    def compose(self) -> ComposeResult:
        """The question."""
        yield Static(f"{self._verb.capitalize()} the request {self._request}?  y: yes   n: no", markup=False)

    def action_act(self) -> None:
        """Do it."""
        self.app.run_worker(self._act())
        self.dismiss()

    async def _act(self) -> None:
        try:
            told = await self._feed.act(self._verb, self._request)
        except ClientError as error:
            self.app.notify(one_line(str(error)), severity="error", markup=False)
        else:
            self.app.notify(told, markup=False)


class Help(ModalScreen[None]):
    """The keys."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,question_mark,q", "dismiss", "Back")]

    def compose(self) -> ComposeResult:
        """The keys."""
        yield Static(_KEYS, markup=False)
