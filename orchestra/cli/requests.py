"""``orchestra requests``: a list of them, one of them, and why it waits, over HTTP."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.table import Column, Table

from orchestra.cli.calls import as_answered, calling
from orchestra.cli.environment import gateway_of
from orchestra.cli.filters import with_filters
from orchestra.cli.format import brief, clock, span
from orchestra.cli.options import DEFAULT_DATA, AsJson, Data, GatewayUrl, Key
from orchestra.cli.sheet import lines
from orchestra.cli.steering import cancel, change, retry
from orchestra.cli.terminal import echo, hand_over, plain_table, print_list
from schemas.api.requests import MAX_IDS, ListedRequest, RequestDetail, RequestResource
from schemas.api.waiting import WaitingState
from schemas.status import Status

_MAX_PAGE = 100
_OPEN = (Status.PENDING, Status.IN_PROGRESS)

Id = Annotated[UUID, typer.Argument(help="Id of the request.")]


def build() -> typer.Typer:
    """The verbs of ``orchestra requests``."""
    group = typer.Typer(help="Requests: list, show, cancel, retry, change; why one waits.", no_args_is_help=True)
    for verb in (list_, show, cancel, retry, change):
        group.command(name=verb.__name__.rstrip("_"))(verb)
    return group


@with_filters
def list_(
    *,
    id: Annotated[list[UUID] | None, typer.Option(help=f"Only these, up to {MAX_IDS}.")] = None,
    filter: Mapping[str, Any],
    limit: Annotated[int, typer.Option(min=1, help="Maximum number, newest first.")] = 20,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV as it arrives, without the texts.")] = False,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """List requests that match all filters, newest first. Admins and operators see those of all owners."""
    if as_csv and as_json:
        raise typer.BadParameter("give --csv or --json, not both")
    with calling(gateway_of(gateway, data), key) as client:
        rows = islice(client.requests.list(page_size=min(limit, _MAX_PAGE), id=id or None, **filter), limit)
        if as_csv:
            for line in lines(rows):
                hand_over(line)
            return
        found = list(rows)
    if as_json:
        hand_over(json.dumps([as_answered(each) for each in found], indent=2))
    elif found:
        print_list(_table(found))
    else:
        echo("no such requests" if id or filter else "no requests")


def _table(rows: Sequence[ListedRequest]) -> Table:
    """One line for each, and one below it with what is not a number."""
    numbers = (Column(title, justify="right", no_wrap=True) for title in ("priority", "waited", "ran"))
    table = plain_table(Column("request", overflow="fold"), Column("status", no_wrap=True), *numbers)
    for row in rows:
        attempts = f"{row.attempts} attempts" if (row.attempts or 0) > 1 else None
        about = ", ".join(each for each in (row.model, row.owner, row.task_type, attempts, error_of(row)) if each)
        priority = "-" if row.priority is None else f"{row.priority}"
        table.add_row(f"{row.id}\n  {about}", row.status, priority, brief(waited(row)), brief(ran(row)))
    return table


def waited(row: RequestResource) -> float | None:
    """For how many seconds a request has waited for its first attempt, since it was accepted where that is known."""
    accepted = row.accepted_at if isinstance(row, RequestDetail) else None
    return _between(accepted or row.created_at, row.started_at or row.finished_at or datetime.now(UTC))


def ran(row: RequestResource) -> float | None:
    """For how many seconds a request has run, pauses between its attempts included; None: it has not begun."""
    return _between(row.started_at, row.finished_at or datetime.now(UTC))


def _between(start: datetime | None, end: datetime) -> float | None:
    return None if start is None else max(0.0, (end - start).total_seconds())


def error_of(row: RequestResource) -> str | None:
    """The code of the error of a request, or of its last attempt."""
    error = row.error or row.last_error
    return str(error.code) if error else None


def show(
    request: Id,
    *,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Show a request: its state, its attempts, and while it is open, why it waits and about how long."""
    with calling(gateway_of(gateway, data), key) as client:
        found = client.requests.get(request)
        waits = client.requests.waiting(request) if found.status in _OPEN else None
    if as_json:
        more = {"waiting": as_answered(waits)} if waits else {}
        hand_over(json.dumps({**as_answered(found), **more}, indent=2))
        return
    for line in lines_of(found, waits):
        echo(line)


def lines_of(found: RequestDetail, waits: WaitingState | None) -> Iterator[str]:
    """What is known of a request, with why it waits if it does."""
    yield from _facts(found)
    if waits:
        yield from _waits(waits)
    yield from _texts(found)


def _facts(found: RequestDetail) -> Iterator[str]:
    yield f"request {found.id}: {found.status}{', cancel requested' * found.cancel_requested}"
    facts = ("conversation_id", "owner", "model", "task_type", "priority", "worker", "trace_id", "retry_of", "cost")
    for name in facts:
        if (fact := getattr(found, name)) is not None:
            yield f"{name.replace('_', ' ')}: {fact}"
    for name in ("accepted_at", "created_at", "not_before", "runnable_at", "started_at", "finished_at", "deadline"):
        if moment := getattr(found, name):
            yield f"{name.removesuffix('_at').replace('_', ' ')}: {clock(moment)}"
    if (seconds := waited(found)) is not None:
        yield f"waited: {span(seconds)}"
    if record := found.record:
        yield f"record: {record.topic}/{record.partition} at {record.offset}"
    if found.attempts:
        yield f"attempts: {found.attempts}; tries: {found.tries} of {found.max_tries}"
    for error in found.errors:
        yield f"attempt {error.attempt} failed at {clock(error.at)}: {error.code}: {error.detail}"
    if found.error:
        yield f"failed: {found.error.code}: {found.error.detail}"


def _waits(state: WaitingState) -> Iterator[str]:
    for reason in state.reasons:
        until = f" Until {clock(reason.until)}." if reason.until else ""
        behind = f" It waits for {reason.request_id}." if reason.request_id else ""
        yield f"waits: {reason.code}: {reason.detail}{until}{behind}"
    if state.position is not None:
        yield f"position: {state.position}"
    if state.estimate_seconds is not None:
        yield f"starts in about {span(state.estimate_seconds)}"


def _texts(found: RequestDetail) -> Iterator[str]:
    for message in found.messages or ():
        content = as_answered(message).get("content")
        yield f"{message.role}: {content if isinstance(content, str) else json.dumps(content)}"
    if found.reply is not None:
        yield f"assistant: {found.reply}"
