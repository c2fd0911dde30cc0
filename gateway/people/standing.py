"""⑩ Checks the access of a long call again from time to time, so that it ends once the caller has lost it."""

import time
from collections.abc import Awaitable, Callable

from gateway.people.principal import Principal
from gateway.timings import TIMINGS, Timings
from orchestra.store.database import DatabaseUnavailableError
from schemas.errors import ErrorCode, OrchestraError


class Standing:
    """Checks every 20 s of a call whether ``caller`` still has access; ``ask`` identifies it again.

    ``due``: the time of the next check, by ``time.monotonic``; before it, ``check`` does nothing.
    """

    def __init__(self, caller: Principal, ask: Callable[[], Awaitable[Principal]], timings: Timings = TIMINGS) -> None:
        self.caller = caller
        self._ask = ask
        self._every = timings.ask_again
        self.due = time.monotonic() + self._every

    async def check(self) -> None:
        """Identify the caller again if a check is due. While Postgres is unreachable, access stays as it was.

        Raises ``UNAUTHORIZED``, or ``FORBIDDEN``, also when the caller still has access but to other data.
        """
        if time.monotonic() < self.due:
            return
        self.due = time.monotonic() + self._every
        try:
            now, before = await self._ask(), self.caller
        except DatabaseUnavailableError:
            return
        if (now.tenant, now.user, now.only) != (before.tenant, before.user, before.only):
            raise OrchestraError(ErrorCode.FORBIDDEN, "your access has changed; send the request again")
