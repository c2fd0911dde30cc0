"""``orchestra requests cancel``, ``retry`` and ``change``: act on requests, by their ids or by filters, over HTTP."""

import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import typer

from orchestra.cli.calls import calling
from orchestra.cli.environment import gateway_of
from orchestra.cli.filters import with_filters
from orchestra.cli.options import DEFAULT_DATA, AsJson, Data, GatewayUrl, Key
from orchestra.cli.terminal import echo, hand_over
from schemas.api.steering import RequestsChanged, RequestsDone, SkipCode

_DEFAULT = "default"
_DONE = {"cancel": "cancelled", "retry": "retried", "change": "changed"}
# Left alone because it is already so: a repeated command has nothing to do.
_ALREADY = {
    "cancel": {SkipCode.ENDED, SkipCode.CANCELLING},
    "retry": {SkipCode.RETRIED, SkipCode.IS_RETRY},
    "change": {SkipCode.UNCHANGED},
}
_WHOSE = {"own": " of your own", "tenant": " of all owners"}

Ids = Annotated[list[UUID] | None, typer.Argument(help="Ids of the requests; instead of filters.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show how many requests would be affected; change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask on a terminal.")]


@with_filters
def cancel(
    ids: Ids = None,
    *,
    filter: Mapping[str, Any],
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Cancel requests that have not ended: the named ones, or all that match the filters.

    First shows how many requests match. Requests that have ended or are already being cancelled are left as they are.
    Exit code 1 if others could not be cancelled.
    """
    _run("cancel", ids, filter, (gateway_of(gateway, data), key), dry_run=dry_run, yes=yes, as_json=as_json)


@with_filters
def retry(
    ids: Ids = None,
    *,
    filter: Mapping[str, Any],
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Retry failed, expired and cancelled requests, as new ones: the named ones, or all that match the filters.

    First shows how many requests match. A request can be retried only once, so it is safe to repeat the command:
    requests that were retried before are skipped. Exit code 1 if others could not be retried.
    """
    _run("retry", ids, filter, (gateway_of(gateway, data), key), dry_run=dry_run, yes=yes, as_json=as_json)


@with_filters
def change(
    ids: Ids = None,
    *,
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="New priority; higher runs first.")] = None,
    not_before: Annotated[
        str | None, typer.Option(help="Earliest start, such as 2026-01-31T12:00:00Z; `default` removes it.")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(help="Expire if not answered by then; `default`: an hour after it may start.")
    ] = None,
    filter: Mapping[str, Any],
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Change requests that no worker runs yet: the named ones, or all that match the filters.

    First shows how many requests match. Requests that already have these values are skipped. Exit code 1 if others
    could not be changed.
    """
    where = gateway_of(gateway, data), key
    given: dict[str, Any] = {"priority": priority, "not_before": not_before, "deadline": deadline}
    changes: Any = {name: None if value == _DEFAULT else value for name, value in given.items() if value is not None}
    if not changes:
        raise typer.BadParameter("give at least one of --priority, --not-before, --deadline")
    _run("change", ids, filter, where, changes, dry_run=dry_run, yes=yes, as_json=as_json)


def _run(
    verb: str,
    ids: Sequence[UUID] | None,
    filter: Mapping[str, Any],
    where: tuple[str, str | None],
    *changes: Any,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Count, ask on a terminal, then act. ``where``: the gateway and the key."""
    if bool(ids) == bool(filter):
        wrong = ", not both" if ids else " such as --status or --model"
        raise typer.BadParameter(f"give the ids of requests, or at least one filter{wrong}")
    with calling(*where) as client:
        act = partial(getattr(client.requests, f"{verb}_all"), *changes, ids or None, **filter)
        told: RequestsDone = act(dry_run=True)
        whose = _WHOSE.get(told.scope or "", "") if filter else ""
        count = f"{told.matched} requests{whose}, {_line(told, f'would be {_DONE[verb]}')}"
        if not dry_run:
            echo(count, err=True)
            if told.done:
                if not yes and sys.stdin.isatty():
                    typer.confirm(f"{verb} {told.done} requests?", abort=True, err=True)
                told = act(dry_run=False)
    if isinstance(told, RequestsChanged) and "priority" in told.warnings:
        echo("the priority is lowered to what this key may use", err=True)
    if as_json:
        skipped = {each.code: each.count for each in told.skipped}
        counts = {"matched": told.matched, "done": told.done, "skipped": skipped}
        hand_over(json.dumps({"scope": told.scope, **counts}, indent=2))
    else:
        echo(count if dry_run else _line(told, _DONE[verb]))
    if not dry_run and any(each.code not in _ALREADY[verb] for each in told.skipped):
        raise typer.Exit(1)


def _line(told: RequestsDone, done: str) -> str:
    reasons = ", ".join(f"{each.code} {each.count}" for each in told.skipped)
    others = f"; {sum(each.count for each in told.skipped)} not: {reasons}" if reasons else ""
    return f"{told.done} {done}{others}"
