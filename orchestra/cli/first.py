"""The first message through a stack that has just started: its reply is shown as it arrives, with a time limit."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from orchestra.cli.options import command
from orchestra.cli.terminal import Screen, Terminal
from orchestra.devstack.progress import StartProgress
from orchestra.transcript import Piece

if TYPE_CHECKING:
    from orchestra.cli.ask import ReplyWaiter

# The small model answers this one correctly.
QUESTION = "What is the capital of France? Answer in one sentence."
_SECONDS = 60.0


class FirstMessage(Screen):
    """The first message and its reply. Progress of the stack is never printed in the middle of a line of the reply."""

    def __init__(self, console: Terminal, data: Path, report: Callable[[StartProgress], None]) -> None:
        self._console = console
        self._data = data
        self._report = report
        self._label = Text()
        self._within_a_line = False
        self._held: list[StartProgress] = []

    def report(self, progress: StartProgress) -> None:
        """Show progress of the stack, once no line of the reply is open."""
        if self._within_a_line:
            self._held.append(progress)
        else:
            self._report(progress)

    async def send(self, status: dict[str, Any], seconds: float = _SECONDS) -> bool:
        """Send it to this status's gateway and show the reply. False if there was no reply within ``seconds``."""
        from orchestra.cli.ask import ReplyWaiter, Where
        from orchestra.client import ClientError

        model = status["env"]["LLM_MODEL"]
        self._label = Text.assemble((f"{model:<9}", "bold"), " ")
        self._line(Text.assemble((f"{'You':<9}", "bold"), f" {QUESTION}"))
        body: dict[str, Any] = {"messages": [{"role": "user", "content": QUESTION}]}
        if status["model"]["url"]:
            # The small model needs temperature 0 to stay on topic; other models may not accept it.
            body |= {"temperature": 0, "max_tokens": 80}
        waiter = ReplyWaiter(Where(status["gateway"]["url"]), body, self)
        try:
            async with asyncio.timeout(seconds):
                await waiter.reply()
        except TimeoutError:
            self._end()
            self._tell_of_delay(waiter, seconds)
            return False
        except ClientError as error:
            self._end()
            self._line(f"no reply: {error}", style="red")
            self._line(f"The stack is up; `{command('logs', data=self._data)}` may say why.")
            return False
        self._end()
        return True

    def show(self, piece: Piece) -> None:
        """Show a piece of the reply, if it is text: nothing else was asked for."""
        if piece.kind != "text":
            return
        if not self._within_a_line:
            self._console.print(self._label, end="")
        self._within_a_line = True
        self._console.print(piece.text, end="", soft_wrap=True)

    def restart(self) -> None:
        """Say that the reply starts again."""
        self.note("starting again")

    def note(self, text: str) -> None:
        """Show a remark about the reply, on a line of its own."""
        self._end()
        self._line(f"[{text}]", style="dim")

    def _tell_of_delay(self, waiter: "ReplyWaiter", seconds: float) -> None:
        waiting = "for the model" if waiter.started else "for a worker"
        self._line(f"no reply within {seconds:.0f} s: still waiting {waiting}", style="red")
        if waiter.request_id:
            self._line(f"Request {waiter.request_id} stays open until its deadline. To see its state:")
            self._line(f"  curl -s {waiter.where.url}/v1/requests/{waiter.request_id}")
        self._line(f"  {command('logs', '--level', 'warning', data=self._data)}")

    def _line(self, text: str | Text, *, style: str | None = None) -> None:
        self._console.print(text, style=style, soft_wrap=True)

    def _end(self) -> None:
        """End the open line, and show the progress that was held back."""
        if self._within_a_line:
            self._console.print()
        self._within_a_line = False
        while self._held:
            self._report(self._held.pop(0))
