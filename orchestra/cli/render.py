"""Draws the progress of a stack: a live table on a terminal, plain lines elsewhere."""

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from orchestra.cli.terminal import Terminal
from orchestra.devstack.progress import StartProgress

_QUARTERS = 4
_MARKS = {"ready": ("✓", "green"), "stopped": ("✓", "green"), "failed": ("✗", "red"), "restarting": ("!", "yellow")}


class Progressing:
    """Shows reported progress; after ``close``, further reports are printed as single lines."""

    def __init__(self, console: Terminal) -> None:
        self._console = console
        self._rows: dict[str, tuple[StartProgress, Spinner]] = {}
        self._live = Live(console=console, refresh_per_second=10) if console.is_terminal else None
        self._last: dict[str, StartProgress] = {}
        if self._live:
            self._live.start()

    def close(self) -> None:
        """Leave the table as it is and release the terminal."""
        if self._live:
            self._live.stop()
            self._live = None

    def report(self, progress: StartProgress) -> None:
        """Show one report."""
        if self._live and progress.step != "note":
            _, spinner = self._rows.get(progress.part) or (progress, Spinner("dots"))
            self._rows[progress.part] = (progress, spinner)
            self._live.update(self._table())
        elif self._is_news(progress):
            self._console.print(f"{progress.part:<12} {_words(progress)}")
        self._last[progress.part] = progress

    def _is_news(self, progress: StartProgress) -> bool:
        """Whether to print a line: one for each quarter of a download, and never the same line twice."""
        last = self._last.get(progress.part)
        if progress.step == "downloading" and last and last.step == "downloading":
            return _QUARTERS * progress.done // progress.total != _QUARTERS * last.done // last.total
        return progress != last

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for part, (progress, spinner) in self._rows.items():
            mark = _MARKS.get(progress.step)
            bar = ProgressBar(progress.total, progress.done, width=20) if progress.step == "downloading" else ""
            table.add_row(Text(*mark) if mark else spinner, part, Text(_words(progress), style="dim"), bar)
        return table


def _words(progress: StartProgress) -> str:
    if progress.step == "note":
        return progress.detail
    if progress.step == "downloading":
        return f"downloading {progress.detail}, {progress.done} of {progress.total}"
    return f"{progress.step} {progress.detail}".strip()
