"""Why a stack cannot be started or reached."""


class StackError(Exception):
    """What is wrong, in words for the user at the terminal."""


class PartFailedError(StackError):
    """A part could not be started."""

    def __init__(self, part: str, reason: str, log_tail: str = "") -> None:
        super().__init__(f"{part} {reason}")
        self.reason = reason
        self.log_tail = log_tail


class PortTakenError(StackError):
    """Something else listens on a port that the stack needs."""


class FolderRefusedError(StackError):
    """The data folder contains files that no stack created, or cannot be used."""


class AlreadyRunningError(StackError):
    """A stack is already running on this data folder."""


class NotRunningError(StackError):
    """No stack is running on this data folder."""


class UnreachableError(NotRunningError):
    """Whether a stack is running on this data folder cannot be determined."""


class RefusedError(StackError):
    """The supervisor refused a request, or could not carry it out."""
