"""Erasures: the deletion of everything that an owner has."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool

from schemas import fields
from schemas.api.pages import Page
from schemas.content import storable
from schemas.json_schema import described

MOST_COUNTED = 10_000
"""Up to here a dry run counts each kind: a count that is equal to it means at least this many."""

_COUNTS = {"conversations": 12, "messages": 340, "requests": 171, "files": 3, "dead_letters": 1}


class EraseOwner(BaseModel):
    """Body of ``POST /v1/erasures``."""

    model_config = ConfigDict(extra="forbid")

    owner: Annotated[
        str,
        Field(min_length=1, max_length=200),
        AfterValidator(storable),
        described(
            "Whose data to delete: the id of a user, `key:NAME` for a program's keys, or a name sent as `X-User-ID`.",
            fields.A_USER,
        ),
    ]
    dry_run: Annotated[StrictBool, described("Only count; delete nothing.", True)] = False


class ErasureResource(BaseModel):
    """An erasure."""

    id: Annotated[UUID | None, described("The erasure's id; null for a dry run.", fields.AN_ERASURE)]
    status: Annotated[
        Literal["counted", "running", "done"],
        described(
            "`counted`: a dry run. `running`: workers delete. `done`: nothing is left in Postgres and the files.",
            "running",
        ),
    ]
    counts: Annotated[
        dict[str, int],
        described(
            "By kind, how much has been deleted so far; in a dry run, how much there is. A dry run counts what lists "
            f"show, up to {MOST_COUNTED:,} of a kind, and looks at the newest 50,000 dead letters.",
            _COUNTS,
        ),
    ]
    requested_at: Annotated[datetime, described("When it was requested.", "2026-11-30T10:00:00.123456Z")]
    finished_at: Annotated[datetime | None, described("When it was done; null: not yet.", "2026-11-30T10:02:07Z")]
    topics_free_at: Annotated[
        dict[str, datetime],
        described(
            "By topic, when Kafka will have deleted the owner's requests and answers. This is for the retention that "
            "`orchestra topics` sets; if you have set a longer one, it is later.",
            {"llm.requests": "2026-12-08T14:02:00Z"},
        ),
    ]


class ErasurePage(Page[ErasureResource]):
    """One page of the erasures, newest first."""
