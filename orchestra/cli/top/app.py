"""The application of `orchestra top` on a terminal."""

import asyncio
import math
import signal
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.screen import Screen

from orchestra.cli.top.overview import Overview
from orchestra.cli.top.screens import Help
from orchestra.cli.top.seen import Feed
from orchestra.client import AsyncClient, ClientError

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Top(App[str]):
    """Shows what a gateway says, and acts on requests. Ends with the reason if the gateway refuses the caller."""

    ENABLE_COMMAND_PALETTE = False
    VERTICAL_BREAKPOINTS = [(0, "-low"), (30, "-tall")]  # noqa: RUF012  as textual declares it
    BINDINGS: ClassVar[list[BindingType]] = [
        ("p", "freeze", "Freeze"),
        ("question_mark", "help", "Help"),
        ("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]

    def __init__(self, gateway: str, key: str | None) -> None:
        super().__init__()
        client = AsyncClient(
            gateway,
            key or "",
            retry_seconds=0,
            reconnect_seconds=math.inf,
            on_retry=lambda error, _pause: self._feed.lost(error),
        )
        self._client = client
        self._feed = Feed(client, self._show)
        self._overview = Overview(gateway, self._feed)

    def get_default_screen(self) -> Screen[None]:
        """What is below everything."""
        return self._overview

    def on_mount(self) -> None:
        """Begin. A signal that asks the process to end gives the terminal back first."""
        for each in _ENDING:
            asyncio.get_running_loop().add_signal_handler(each, self.exit)
        self.set_interval(1, self._show)
        self.run_worker(self._follow())

    async def on_unmount(self) -> None:
        """End."""
        for each in _ENDING:
            asyncio.get_running_loop().remove_signal_handler(each)
        await self._client.close()

    def action_freeze(self) -> None:
        """Stop changing what is shown, or go on."""
        self._feed.freeze()

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(Help())

    async def _follow(self) -> None:
        try:
            await self._feed.run()
        except* ClientError as errors:
            self.exit(str(errors.exceptions[0]))

    def _show(self) -> None:
        self._overview.show()
