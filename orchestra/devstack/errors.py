"""Why a stack cannot be started or reached; each message is meant for the person at the terminal."""


class PartFailedError(Exception):
    """A part could not be started."""

    def __init__(self, part: str, reason: str, log_tail: str = "") -> None:
        super().__init__(f"{part} {reason}")
        self.reason = reason
        self.log_tail = log_tail


class PortTakenError(Exception):
    """Something else listens on a port that the stack needs."""


class AlreadyRunningError(Exception):
    """A stack is already running on this data folder."""


class NotRunningError(Exception):
    """No stack is running on this data folder."""


class RefusedError(Exception):
    """The supervisor refused a request, or could not carry it out."""
