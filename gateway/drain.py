"""The way out: who waits or streams is told to come back, nothing new is taken, the process ends."""

from collections.abc import Callable

from schemas.errors import ErrorCode, OrchestraError


class Drain:
    """Begins once, by a signal or because a part is beyond help."""

    def __init__(self) -> None:
        self.failed = False
        self.begun = False
        self._listeners: list[Callable[[], None]] = []

    def on_begin(self, listener: Callable[[], None]) -> None:
        """Call this when it begins."""
        self._listeners.append(listener)

    def begin(self, *, failed: bool = False) -> None:
        """Begin. ``failed``: the process ends with an error, so that whoever supervises it starts another."""
        self.failed = self.failed or failed
        if not self.begun:
            self.begun = True
            for listener in self._listeners:
                listener()

    def refuse_new(self) -> None:
        """Raises ``UNAVAILABLE`` once it has begun."""
        if self.begun:
            raise OrchestraError(ErrorCode.UNAVAILABLE, "this gateway is shutting down", retry_after=1)
