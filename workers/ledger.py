"""Which owners are erased, as this worker knows: their records are not taken in, however late they are read."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestra.signing import OwnerHasher
from orchestra.store import erasures
from orchestra.store.database import Database
from orchestra.store.dead_letters import DeadLetter
from schemas.envelope import readable_headers
from schemas.errors import ErrorCode
from schemas.requests import CANCEL_REQUESTED, CONVERSATION_DELETE_REQUESTED
from workers.records import Verdict, moment

_DETAIL = "everything that its owner has is deleted, and what comes from them until that is done is not taken in"


class Ledger:
    """The erasures, as last read. It is read again when a batch is refused because there are later ones."""

    def __init__(self, secrets: list[bytes]) -> None:
        self._hasher = OwnerHasher(secrets)
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

    def split(self, verdicts: Sequence[Verdict]) -> tuple[Sequence[Verdict], Sequence[DeadLetter]]:
        """The records but those of erased owners, and these."""
        if not self._by_hash:
            return verdicts, ()
        kept, erased = list[Verdict](), list[DeadLetter]()
        for verdict in verdicts:
            record = verdict if isinstance(verdict, DeadLetter) else verdict.record
            if self._is_erased(record):
                erased.append(record)
            else:
                kept.append(verdict)
        return kept, erased

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


def refusals(erased: Sequence[DeadLetter], read: Mapping[tuple[str, int], int]) -> list[DeadLetter]:
    """Dead letters for those records of erased owners that ask for an answer and are read for the first time.

    They have the id of the request, and nothing else that the record said. ``read``: the offsets up to which records
    were read before, by topic and partition: those before it have had their answer.
    """
    return [
        _emptied(letter).because(ErrorCode.OWNER_ERASED, _DETAIL)
        for letter in erased
        if letter.offset >= read.get((letter.topic, letter.partition), 0)
        and readable_headers(letter.headers).type not in (CANCEL_REQUESTED, CONVERSATION_DELETE_REQUESTED)
    ]


def _emptied(letter: DeadLetter) -> DeadLetter:
    length = len(letter.value or b"") if letter.value_bytes is None else letter.value_bytes
    return replace(letter, key=None, value=None, value_bytes=length, headers=[])
