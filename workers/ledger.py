"""Which owners are erased, as this worker knows: their records are not taken in, however late they are read."""

from collections.abc import Sequence

import structlog

from orchestra.signing import OwnerHasher
from orchestra.store import erasures
from orchestra.store.database import Database
from orchestra.store.dead_letters import DeadLetter
from schemas.envelope import readable_headers
from workers.metrics import Metrics
from workers.records import Verdict, moment

log = structlog.get_logger()


class Ledger:
    """The erasures, as last read. It is read again when a batch is refused because there are later ones."""

    def __init__(self, secrets: list[bytes], metrics: Metrics) -> None:
        self._hasher = OwnerHasher(secrets)
        self._metrics = metrics
        self._known = erasures.Ledger()
        self._by_hash: dict[str, list[erasures.StoredErasure]] = {}

    @property
    def number(self) -> int:
        """The number of the last erasure that is known; 0: none."""
        return self._known.number

    async def look(self, database: Database) -> None:
        """Read all erasures. Raises ``DatabaseUnavailableError``."""
        known, by_hash = await erasures.ledger(database), dict[str, list[erasures.StoredErasure]]()
        for each in known.erasures:
            by_hash.setdefault(each.owner_hash, []).append(each)
        self._known, self._by_hash = known, by_hash

    def without_erased(self, verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
        """The records but those of erased owners, which are counted and leave no other trace."""
        if not self._by_hash:
            return verdicts
        kept = [each for each in verdicts if not self._is_erased(each if isinstance(each, DeadLetter) else each.record)]
        if refused := len(verdicts) - len(kept):
            self._metrics.erased.inc(refused)
            log.info("records_of_erased_owners", count=refused)
        return kept

    def _is_erased(self, record: DeadLetter) -> bool:
        said = readable_headers(record.headers)
        # Whether a gateway signed it does not matter: another writer of the header only has its own record left out.
        if not said.user or not said.tenant:
            return False
        at = moment(record.timestamp_ms)
        return any(
            each.refuses_until is None or at <= each.refuses_until
            for hash in self._hasher.hashes(said.tenant, said.user)
            for each in self._by_hash.get(hash, ())
        )
