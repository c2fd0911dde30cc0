"""⑩ A call that lasts is asked again who makes it: whoever lost their rights meanwhile is told no more."""

import time
from collections.abc import Awaitable, Callable

from gateway.people.principal import Principal
from gateway.timings import TIMINGS, Timings
from orchestra.store.database import DatabaseUnavailableError
from schemas.errors import ErrorCode, OrchestraError


class Standing:
    """Whether ``caller`` would still be let in, as ``ask`` says; asked again every 20 s of a call.

    ``due``: when a check is, by ``time.monotonic``. Before that it does nothing.
    """

    def __init__(self, caller: Principal, ask: Callable[[], Awaitable[Principal]], timings: Timings = TIMINGS) -> None:
        self.caller = caller
        self._ask = ask
        self._every = timings.ask_again
        self.due = time.monotonic() + self._every

    async def check(self) -> None:
        """Ask again if it is time. While Postgres is away nobody loses what they had.

        Raises ``UNAUTHORIZED`` or ``FORBIDDEN``, the latter also when the caller is let in and no longer sees the same.
        """
        if time.monotonic() < self.due:
            return
        self.due = time.monotonic() + self._every
        try:
            now, before = await self._ask(), self.caller
        except DatabaseUnavailableError:
            return
        if (now.tenant, now.user, now.only) != (before.tenant, before.user, before.only):
            raise OrchestraError(ErrorCode.FORBIDDEN, "what you may see has changed meanwhile: ask again")
