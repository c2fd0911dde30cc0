"""Acts on many requests, in as many calls as that takes."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any, Literal, TypeVar
from uuid import UUID

from orchestra.client.caller import Call, Caller
from orchestra.client.options import RequestFilters, check_names, whole_body_of
from schemas.api.steering import MAX_AT_ONCE, RequestsChanged, RequestsDone, SkipCode, Skipped

Done = TypeVar("Done", bound=RequestsDone)


async def act(
    caller: Caller,
    verb: str,
    answers: type[Done],
    ids: Collection[UUID | str] | None,
    filters: RequestFilters,
    *,
    dry_run: bool,
    key: str | None = None,
    **more: Any,
) -> Done:
    """Act on all requests that are selected. Returns the sums of all calls. ``more``: other fields of the bodies."""
    check_names(filters, RequestFilters)
    sums = _Sums()
    for selection in _selections(ids, filters):
        body: dict[str, Any] | None = {**selection, **more, "dry_run": dry_run}
        while body:
            call = keyed(f"/v1/requests/{verb}", key, whole_body_of(**body))
            answer = (await caller.call(call)).read(answers)
            sums.add(answer)
            body = {**body, "cursor": answer.next} if answer.next else None
    return answers.model_validate(sums.fields())


def keyed(path: str, key: str | None, content: bytes | None = None) -> Call:
    """A POST under this Idempotency-Key, if there is one."""
    headers, about = ({"Idempotency-Key": key}, {"idempotency_key": key}) if key else ({}, {})
    return Call("POST", path, headers=headers, content=content, about=about)


def _selections(ids: Collection[UUID | str] | None, filters: RequestFilters) -> Iterator[dict[str, Any]]:
    """What to select, for the bodies of as many calls."""
    given = {name: value for name, value in filters.items() if value is not None}
    if ids is None or given:
        named = {} if ids is None else {"ids": [*ids]}
        yield {**named, "filter": given}  # The gateway refuses both together, and neither.
        return
    every = [*ids]
    yield from ({"ids": every[at : at + MAX_AT_ONCE]} for at in range(0, len(every), MAX_AT_ONCE))


class _Sums:
    """What the calls have done so far."""

    def __init__(self) -> None:
        self._scope: Literal["own", "tenant"] | None = None
        self._matched = self._done = 0
        self._skipped = Counter[SkipCode]()
        self._warnings = dict[str, None]()

    def add(self, answer: RequestsDone) -> None:
        """Add one call."""
        self._scope = answer.scope
        self._matched += answer.matched
        self._done += answer.done
        self._skipped.update({each.code: each.count for each in answer.skipped})
        if isinstance(answer, RequestsChanged):
            self._warnings |= dict.fromkeys(answer.warnings)

    def fields(self) -> dict[str, Any]:
        """The fields of an answer for all of them."""
        skipped = [Skipped.model_construct(code=code, count=count) for code, count in sorted(self._skipped.items())]
        counts = {"matched": self._matched, "done": self._done, "more": False}
        return {"scope": self._scope, **counts, "skipped": skipped, "warnings": [*self._warnings]}
