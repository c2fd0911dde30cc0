"""The first message of `orchestra up`, against a gateway that follows a script."""

import asyncio
import io
from pathlib import Path
from typing import Any

from orchestra.cli.first import QUESTION, FirstMessage
from orchestra.cli.terminal import Terminal
from orchestra.devstack.progress import StartProgress
from orchestra.transcript import Piece
from tests.support.fake_gateway import (
    COMPLETED,
    PENDING,
    REQUEST_ID,
    UNTIL_CANCELLED,
    Refusal,
    Step,
    delta,
    fake_gateway,
)

STARTED = 'id: 1.0\nevent: started\ndata: {"attempt": 1}\n\n'
REFUSED = 'event: restart\ndata: {"text": "", "last_error": {"code": "auth", "detail": "No."}}\n\n'
DATA = Path(".orchestra")


class Shown:
    """A console of 80 columns, and what is on it."""

    def __init__(self) -> None:
        self._file = io.StringIO()
        self.console = Terminal(file=self._file, width=80)
        self.first = FirstMessage(self.console, DATA, lambda told: self.console.print(f"{told.part} {told.step}"))

    @property
    def lines(self) -> list[str]:
        return self._file.getvalue().splitlines()

    async def until(self, text: str) -> None:
        async with asyncio.timeout(20):
            while text not in self._file.getvalue():
                await asyncio.sleep(0)


def status(url: str, *, small: bool = True) -> dict[str, Any]:
    return {
        "gateway": {"url": url},
        "model": {"url": "http://model" if small else None},
        "env": {"LLM_MODEL": "smollm2"},
    }


async def sent(script: list[Step], *, seconds: float = 60, small: bool = True) -> tuple[bool, Shown, dict[str, Any]]:
    terminal = Shown()
    async with fake_gateway(script) as gateway:
        answered = await terminal.first.send(status(gateway.url, small=small), seconds)
    return answered, terminal, gateway.bodies[0]


async def test_question_and_answer_stand_below_each_other() -> None:
    """The question and the reply are shown with the model's own name; the small one is not left to chance."""
    answered, terminal, body = await sent([PENDING + STARTED + delta("Par", 3) + delta("is.", 6) + COMPLETED])
    _, _, other = await sent([PENDING + COMPLETED], small=False)

    assert answered
    assert terminal.lines == [f"You       {QUESTION}", "smollm2   Paris."]
    assert body["temperature"] == 0
    assert other.keys() == {"messages"}


async def test_why_it_takes_long_is_told_at_once() -> None:
    """The error of the last attempt is on the terminal while the message is still waited for."""
    terminal = Shown()
    async with fake_gateway([PENDING + STARTED + REFUSED + UNTIL_CANCELLED + delta("Hi", 2) + COMPLETED]) as gateway:
        sending = asyncio.create_task(terminal.first.send(status(gateway.url)))
        await terminal.until("[auth: No.; trying again]")
        gateway.cancelled.set()

        assert await sending
    assert terminal.lines[1:] == ["[auth: No.; trying again]", "smollm2   Hi"]


async def test_it_is_not_waited_for_without_end() -> None:
    """When time is up, the command shows what it waits for, the request's id and how to look it up."""
    for script, waiting in (
        ([PENDING + UNTIL_CANCELLED + COMPLETED], "worker"),
        ([PENDING + STARTED + UNTIL_CANCELLED + COMPLETED], "model"),
    ):
        answered, terminal, _ = await sent(list(script), seconds=0.5)
        text = "\n".join(terminal.lines)

        assert not answered
        assert "no reply within" in text
        assert f"waiting for {'a ' if waiting == 'worker' else 'the '}{waiting}" in text
        assert f"/v1/requests/{REQUEST_ID}" in text


async def test_no_reply_is_told_with_its_reason() -> None:
    """A message that is refused or fails is reported with its detail, and where to look."""
    for script in (
        [Refusal(422, "unknown_model", "No model")],
        [PENDING + 'event: failed\ndata: {"code": "unknown_model", "detail": "No model"}\n\n'],
    ):
        answered, terminal, _ = await sent(list(script))

        assert not answered
        assert "no reply: No model (unknown_model)" in terminal.lines
        assert "logs" in terminal.lines[-1]


async def test_progress_is_not_shown_in_the_middle_of_the_reply() -> None:
    """What happens in the stack while the reply streams is shown behind it; before the first piece, at once."""
    terminal = Shown()
    script: list[Step] = [PENDING + STARTED + UNTIL_CANCELLED + delta("Par", 3) + delta("is.", 6) + COMPLETED]
    async with fake_gateway(script) as gateway:
        sending = asyncio.create_task(terminal.first.send(status(gateway.url)))
        await terminal.until(QUESTION)
        terminal.first.report(StartProgress("worker-2", "starting"))
        own = terminal.first.show

        def show(piece: Piece) -> None:
            own(piece)
            terminal.first.report(StartProgress("worker-2", "ready"))

        terminal.first.show = show  # type: ignore[method-assign]
        gateway.cancelled.set()
        await sending

    assert terminal.lines[1:] == ["worker-2 starting", "smollm2   Paris.", "worker-2 ready", "worker-2 ready"]


async def test_a_model_gives_the_terminal_no_orders() -> None:
    """Control characters of the first reply do not reach the terminal."""
    _, terminal, _ = await sent([PENDING + delta("a\\u001b[31mb", 3) + COMPLETED])

    assert terminal.lines[-1] == "smollm2   a[31mb"
