"""The way out: who waits or streams is told to come back, nothing new is taken, the process ends."""

from collections.abc import Callable

from schemas.errors import ErrorCode, OrchestraError


class Drain:
    """Begins once."""

    def __init__(self) -> None:
        self.begun = False
        self._listeners: list[Callable[[], None]] = []

    def on_begin(self, listener: Callable[[], None]) -> None:
        """Call this when it begins."""
        self._listeners.append(listener)

    def begin(self) -> None:
        """Begin."""
        if not self.begun:
            self.begun = True
            for listener in self._listeners:
                listener()

    def refuse_new(self) -> None:
        """Raises ``UNAVAILABLE`` once it has begun."""
        if self.begun:
            raise OrchestraError(ErrorCode.UNAVAILABLE, "this gateway is shutting down", retry_after=1)
