"""The owners that are being erased: nothing new is accepted from them until it is done."""

from collections.abc import Set as AbstractSet

from gateway.people.principal import Principal
from orchestra.signing import OwnerHasher
from orchestra.store import erasures
from orchestra.store.database import Database
from schemas.errors import ErrorCode, OrchestraError

_DETAIL = "everything that this owner has is being deleted; nothing new is accepted until that is done"


class Erasing:
    """The erasures that run, as last read from Postgres. What a gateway does not know of yet, intake refuses."""

    def __init__(self, secrets: list[bytes]) -> None:
        self._hasher = OwnerHasher(secrets)
        self._running: AbstractSet[tuple[str, str]] = frozenset()

    async def look(self, database: Database) -> None:
        """Read which erasures run. Raises ``DatabaseUnavailableError``."""
        self._running = await erasures.running(database)

    def check(self, caller: Principal) -> None:
        """Raise ``OWNER_ERASED`` if the owner of what this caller creates is being erased."""
        if self._running and any(
            (caller.tenant, hash) in self._running for hash in self._hasher.hashes(caller.tenant, caller.user)
        ):
            raise OrchestraError(ErrorCode.OWNER_ERASED, _DETAIL)
