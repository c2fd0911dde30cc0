"""Evidence, indexed for the checks."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from functools import cached_property
from typing import TypeVar
from uuid import UUID

from faults.evidence import Call, DeadLetter, Evidence, Message, OutboxRow, Place, Record, ReplyRecord, Request
from faults.ledger import Entry
from faults.question import Question, read
from schemas.ids import record_id
from schemas.status import ENDINGS

_T = TypeVar("_T")
_K = TypeVar("_K", bound=Hashable)

Ref = tuple[str, UUID]


class Index:
    """Related evidence. Requests are known by id alone: ids of two tenants never collide in a campaign."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    @cached_property
    def rows(self) -> dict[UUID, list[Request]]:
        """Rows by id; more than one is a violation."""
        return grouped(self.evidence.requests, lambda row: row.id)

    @cached_property
    def row(self) -> dict[UUID, Request]:
        """The first row of each id."""
        return {id: rows[0] for id, rows in self.rows.items()}

    @cached_property
    def by_place(self) -> dict[Place, list[Request]]:
        """Rows by the place of their record."""
        return grouped(self.evidence.requests, lambda row: row.place)

    @cached_property
    def dead_by_place(self) -> dict[Place, list[DeadLetter]]:
        """Dead letters by the place of their record."""
        return grouped(self.evidence.dead_letters, lambda letter: letter.place)

    @cached_property
    def dead_by_id(self) -> dict[UUID, list[DeadLetter]]:
        """Dead letters by the id of their request."""
        return grouped((each for each in self.evidence.dead_letters if each.request_id), lambda each: each.request_id)  # type: ignore[return-value,arg-type]

    @cached_property
    def record(self) -> dict[Place, Record]:
        """Records by place."""
        return {record.place: record for record in self.evidence.records}

    @cached_property
    def conversations(self) -> dict[Ref, list[Request]]:
        """Turns of each conversation, by sequence number."""
        found = grouped(self.evidence.requests, lambda row: (row.tenant, row.conversation_id))
        return {ref: sorted(rows, key=lambda row: row.seq) for ref, rows in found.items()}

    @cached_property
    def histories(self) -> dict[Ref, list[Message]]:
        """Messages of each conversation, oldest first."""
        found = grouped(self.evidence.messages, lambda message: (message.tenant, message.conversation_id))
        return {ref: sorted(messages, key=lambda message: message.id) for ref, messages in found.items()}

    @cached_property
    def answers(self) -> dict[UUID, list[str]]:
        """All that stored answers say, by request."""
        said = (each for each in self.evidence.messages if each.role == "assistant" and each.request_id)
        return {
            id: [each.telling for each in found] for id, found in grouped(said, lambda m: m.request_id).items() if id
        }

    @cached_property
    def outbox(self) -> dict[UUID, list[OutboxRow]]:
        """Rows of the outbox by request."""
        return grouped(self.evidence.outbox, lambda row: row.request_id)

    @cached_property
    def replies(self) -> dict[UUID, list[ReplyRecord]]:
        """Published replies by request, in the order of the topic."""
        found = grouped(self.evidence.replies, lambda record: record.request_id)
        return {id: sorted(records, key=lambda record: record.place) for id, records in found.items()}

    @cached_property
    def refusals(self) -> dict[Place, list[ReplyRecord]]:
        """Replies that report a refused record, by its place."""
        return grouped((each for each in self.evidence.replies if each.refused), lambda each: each.refused)  # type: ignore[return-value,arg-type]

    def names_an_id(self, letter: DeadLetter) -> bool:
        """True if the letter's record named its id; False if the id comes from its place, or that is unknown."""
        record = self.record.get(letter.place)
        return record is not None and letter.request_id != record_id(*letter.place, round(record.at * 1000))

    @cached_property
    def questions(self) -> dict[UUID, Question]:
        """The question of each request of the campaign."""
        found = {row.id: _question(row) for row in self.evidence.requests}
        return {id: question for id, question in found.items() if question}

    @cached_property
    def by_key(self) -> dict[str, list[Request]]:
        """Rows by the key in their question."""
        found: dict[str, list[Request]] = defaultdict(list)
        for row in self.evidence.requests:
            if question := _question(row):
                found[question.key].append(row)
        return found

    @cached_property
    def calls(self) -> dict[str, list[Call]]:
        """The oracle's calls by key, in the order of their start."""
        found = grouped((call for call in self.evidence.calls if call.key), lambda call: call.key)
        return {key: sorted(calls, key=lambda call: call.start) for key, calls in found.items()}

    @cached_property
    def entries(self) -> dict[str, list[Entry]]:
        """The ledger by key, in the order of time."""
        found = grouped(self.evidence.entries, lambda entry: entry.key)
        return {key: sorted(entries, key=lambda entry: entry.at) for key, entries in found.items()}

    def entry(self, id: UUID) -> Entry | None:
        """The first step that the ledger has of a request of the campaign."""
        question = self.questions.get(id)
        steps = self.entries.get(question.key) if question else None
        return steps[0] if steps else None

    def before(self, id: UUID) -> list[Request]:
        """The requests that this one goes on from by the names that its caller gave, oldest first."""
        entry = self.entry(id)
        row = self.row.get(entry.after) if entry and entry.after else None
        return [*self.before(row.id), row] if row else []

    def terminal(self, id: UUID) -> bool:
        """True if the request ended, or is a dead letter."""
        row = self.row.get(id)
        return row.status in ENDINGS if row else id in self.dead_by_id


def grouped(items: Iterable[_T], key: Callable[[_T], _K]) -> dict[_K, list[_T]]:
    """Items by key, each group in the order of the items."""
    found: dict[_K, list[_T]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return dict(found)


def _question(row: Request) -> Question | None:
    last = next((content for role, content, *_ in reversed(row.messages) if role in ("user", "tool")), "")
    return read(last)
