"""Graceful shutdown: waits and streams end with a hint to reconnect, new work is refused, the process exits."""

from collections.abc import Callable

from schemas.errors import ErrorCode, OrchestraError


class Drain:
    """Whether shutdown has begun. It begins once and is never undone."""

    def __init__(self) -> None:
        self.begun = False
        self._listeners: list[Callable[[], None]] = []

    def on_begin(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when shutdown begins."""
        self._listeners.append(listener)

    def begin(self) -> None:
        """Begin to shut down; later calls do nothing."""
        if not self.begun:
            self.begun = True
            for listener in self._listeners:
                listener()

    def refuse_new(self) -> None:
        """Raise ``UNAVAILABLE`` once shutdown has begun."""
        if self.begun:
            raise OrchestraError(ErrorCode.UNAVAILABLE, "this gateway is shutting down", retry_after=1)
