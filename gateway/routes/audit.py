"""The audit: what people and keys have changed, for admins."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Query, Response

from gateway.http.cursors import read_letter_cursor, searched
from gateway.http.responses import json_answer
from gateway.http.route import Call, Route
from orchestra.store import audit
from orchestra.store.database import Database
from schemas.api.audit import AuditPage, AuditQuery
from schemas.api.keys import Scope


class Audit:
    """The route, with its collaborators."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def routes(self) -> Sequence[Route]:
        """The row of the route table."""
        page = {"model": AuditPage, "description": "One page, newest first"}
        return [Route("GET", "/v1/audit", self.list_changes, Scope.ADMIN, {200: page}, lists=True)]

    async def list_changes(self, call: Call[None], query: Annotated[AuditQuery, Query()]) -> Response:
        """List the changes by people and keys, newest first.

        Entries contain no texts of messages and no secrets; sent messages have no entries. A call examines a limited
        number of entries: see `searched_to`. Only for admins.
        """
        before = read_letter_cursor(query.cursor)
        place = (before[0][0], before[1]) if before else None
        found = await audit.page(self._database, call.caller.tenant, query, place, query.limit)
        return json_answer(searched(AuditPage, found))
