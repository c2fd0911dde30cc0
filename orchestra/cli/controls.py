"""``orchestra models|queue|workers`` with a verb, and ``orchestra audit``: what an operator controls, over HTTP."""

import inspect
import json
from collections.abc import Callable, Sequence
from functools import wraps
from itertools import islice
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.table import Column, Table

from orchestra.cli import models, operations
from orchestra.cli.calls import as_answered, calling
from orchestra.cli.environment import gateway_of
from orchestra.cli.format import clock
from orchestra.cli.options import DEFAULT_DATA, AsJson, Data, GatewayUrl, Key
from orchestra.cli.terminal import echo, hand_over, plain_table, print_list
from schemas.api.audit import AuditEntry
from schemas.api.pauses import PauseResource
from schemas.api.workers import WorkerResource

_MAX_PAGE = 1000

Model = Annotated[str, typer.Argument(help="Name or alias of the model.")]
Worker = Annotated[UUID, typer.Argument(help="Id of the worker; `orchestra workers` lists them.")]
Reason = Annotated[str, typer.Option(help="Reason, which callers whose requests wait can also see.")]
Until = Annotated[
    str | None,
    typer.Option(help="When the pause ends by itself, such as 2026-01-31T12:00:00Z. Default: until it is resumed."),
]


def build_models() -> typer.Typer:
    """The verb ``orchestra models`` and those below it."""
    return _group(models.models, {"pause": pause_model, "resume": resume_model})


def build_queue() -> typer.Typer:
    """The verb ``orchestra queue`` and those below it."""
    return _group(operations.queue, {"pause": pause_tenant, "resume": resume_tenant})


def build_workers() -> typer.Typer:
    """The verb ``orchestra workers`` and those below it."""
    return _group(operations.workers, {"drain": drain, "resume": resume_worker})


def pause_model(
    model: Model,
    *,
    reason: Reason = "",
    until: Until = None,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Pause a model for the key's tenant: its requests wait, running ones continue.

    Needs a key with the scope `operate`.
    """
    with calling(gateway_of(gateway, data), key) as client:
        _told(client.models.pause(model, reason=reason, until=until))


def resume_model(model: Model, *, gateway: GatewayUrl = None, key: Key = None, data: Data = DEFAULT_DATA) -> None:
    """Resume a model that the key's tenant has paused.

    Needs a key with the scope `operate`.
    """
    with calling(gateway_of(gateway, data), key) as client:
        client.models.resume(model)
    echo("resumed")


def pause_tenant(
    *,
    reason: Reason = "",
    until: Until = None,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Pause all work of the key's tenant: requests are accepted but wait, running ones continue.

    Needs a key with the scope `operate`.
    """
    with calling(gateway_of(gateway, data), key) as client:
        _told(client.queue.pause(reason=reason, until=until))


def resume_tenant(*, gateway: GatewayUrl = None, key: Key = None, data: Data = DEFAULT_DATA) -> None:
    """Resume the work of the key's tenant.

    Needs a key with the scope `operate`.
    """
    with calling(gateway_of(gateway, data), key) as client:
        client.queue.resume()
    echo("resumed")


def drain(worker: Worker, *, gateway: GatewayUrl = None, key: Key = None, data: Data = DEFAULT_DATA) -> None:
    """Drain a worker: it takes no new requests and finishes its running ones. The process stays.

    Needs a key of the tenant `default` with the scope `operate`. `orchestra workers` shows how many still run.
    """
    with calling(gateway_of(gateway, data), key) as client:
        _told_of(client.workers.drain(worker))


def resume_worker(worker: Worker, *, gateway: GatewayUrl = None, key: Key = None, data: Data = DEFAULT_DATA) -> None:
    """Let a drained worker take requests again.

    Needs a key of the tenant `default` with the scope `operate`.
    """
    with calling(gateway_of(gateway, data), key) as client:
        _told_of(client.workers.resume(worker))


def audit(
    *,
    actor: Annotated[
        str | None, typer.Option(help="Only changes by this credential, such as key:k3x7q2m5ab4c.")
    ] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, such as request.cancel.")] = None,
    target: Annotated[str | None, typer.Option(help="Only changes to this, such as workers/ID.")] = None,
    created_after: Annotated[str | None, typer.Option("--from", help="Start, as 2026-01-31T12:00:00Z.")] = None,
    created_before: Annotated[str | None, typer.Option("--to", help="End.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number, newest first.")] = 100,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """List what people and keys have changed, newest first.

    Needs a key with the scope `admin`.
    """
    with calling(gateway_of(gateway, data), key) as client:
        entries = client.audit.list(
            page_size=min(limit, _MAX_PAGE),
            actor=actor,
            action=action,
            target=target,
            created_after=created_after,
            created_before=created_before,
        )
        found = list(islice(entries, limit))
    if as_json:
        hand_over(json.dumps([as_answered(each) for each in found], indent=2))
    elif found:
        print_list(_table(found))
    else:
        echo("no changes")


def _group(shown: Callable[..., None], verbs: dict[str, Callable[..., None]]) -> typer.Typer:
    """A verb that does something without another one below it."""

    @wraps(shown)
    def alone(context: typer.Context, **options: Any) -> None:
        if context.invoked_subcommand is None:
            shown(**options)

    # As the command line reads it: the options of what is shown.
    signature, first = inspect.signature(shown), inspect.signature(alone, follow_wrapped=False).parameters["context"]
    alone.__signature__ = signature.replace(parameters=[first, *signature.parameters.values()])  # type: ignore[attr-defined]
    alone.__annotations__ = {**shown.__annotations__, "context": typer.Context}
    group = typer.Typer(invoke_without_command=True)
    group.callback()(alone)
    for name, verb in verbs.items():
        group.command(name=name)(verb)
    return group


def _told(made: PauseResource) -> None:
    what = "the tenant" if made.model is None else made.model
    echo(f"{what} is paused until {clock(made.until) if made.until else 'it is resumed'}; what runs goes on")


def _told_of(worker: WorkerResource) -> None:
    running = "unknown" if worker.in_flight is None else f"{worker.in_flight}"
    told = "drains" if worker.drain_requested_at else "works again"
    echo(f"worker {worker.id} {told} within seconds; requests in flight: {running}")


def _table(found: Sequence[AuditEntry]) -> Table:
    table = plain_table(Column("at", no_wrap=True), Column("change", overflow="fold"))
    for each in found:
        fields = [json.dumps(fields) for fields in (each.before, each.after) if fields]
        what = f"{each.action} {each.target} by {each.actor}"
        table.add_row(clock(each.created_at), "\n".join((what, *([" -> ".join(fields)] if fields else ()))))
    return table
