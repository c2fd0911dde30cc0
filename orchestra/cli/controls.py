"""``orchestra models|queue|workers`` with a verb, and ``orchestra audit``: what an operator controls, over HTTP."""

import inspect
import json
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

import typer
from rich.table import Column, Table

from orchestra.cli import models, operations
from orchestra.cli.calls import answer_of, calling
from orchestra.cli.environment import gateway_of
from orchestra.cli.options import DEFAULT_DATA, AsJson, Data, GatewayUrl, Key
from orchestra.cli.terminal import echo, hand_over, plain_table, print_list

_MAX_PAGE = 1000

Model = Annotated[str, typer.Argument(help="Name or alias of the model.")]
Worker = Annotated[UUID, typer.Argument(help="Id of the worker; `orchestra workers` lists them.")]
Reason = Annotated[str, typer.Option(help="Why. Callers whose requests wait see it, too.")]
Until = Annotated[
    str | None,
    typer.Option(help="When the pause ends by itself, as 2026-01-31T12:00:00Z. Default: when it is resumed."),
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
    """Pause a model for the key's tenant: its requests wait, what runs goes on.

    Needs a key with the scope `operate`.
    """
    _pause(f"/v1/models/{quote(model)}/pause", reason, until, gateway_of(gateway, data), key)


def resume_model(model: Model, *, gateway: GatewayUrl = None, key: Key = None, data: Data = DEFAULT_DATA) -> None:
    """Resume a model that the key's tenant has paused.

    Needs a key with the scope `operate`.
    """
    _resume(f"/v1/models/{quote(model)}/resume", gateway_of(gateway, data), key)


def pause_tenant(
    *,
    reason: Reason = "",
    until: Until = None,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Pause all work of the key's tenant: its requests are accepted and wait, what runs goes on.

    Needs a key with the scope `operate`.
    """
    _pause("/v1/tenant/pause", reason, until, gateway_of(gateway, data), key)


def resume_tenant(*, gateway: GatewayUrl = None, key: Key = None, data: Data = DEFAULT_DATA) -> None:
    """Resume the work of the key's tenant.

    Needs a key with the scope `operate`.
    """
    _resume("/v1/tenant/resume", gateway_of(gateway, data), key)


def drain(worker: Worker, *, gateway: GatewayUrl = None, key: Key = None, data: Data = DEFAULT_DATA) -> None:
    """Have a worker take nothing new. What it runs goes on, and the process stays.

    Needs a key of the tenant `default` with the scope `operate`. `orchestra workers` shows how much still runs.
    """
    _control(f"/v1/workers/{worker}/drain", gateway_of(gateway, data), key)


def resume_worker(worker: Worker, *, gateway: GatewayUrl = None, key: Key = None, data: Data = DEFAULT_DATA) -> None:
    """Let a worker that drains work again.

    Needs a key of the tenant `default` with the scope `operate`.
    """
    _control(f"/v1/workers/{worker}/resume", gateway_of(gateway, data), key)


def audit(
    *,
    actor: Annotated[str | None, typer.Option(help="Only what this credential did, as key:k3x7q2m5ab4c.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, as request.cancel.")] = None,
    target: Annotated[str | None, typer.Option(help="Only changes of this, as workers/ID.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Start, as 2026-01-31T12:00:00Z.")] = None,
    to: Annotated[str | None, typer.Option(help="End.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number, newest first.")] = 100,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """List what people and keys have changed, newest first.

    Needs a key with the scope `admin`.
    """
    asked = {"actor": actor, "action": action, "target": target, "created_after": from_, "created_before": to}
    params: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] | None = {}
    with calling(gateway_of(gateway, data), key) as client:
        while cursor is not None and len(found) < limit:
            page = {**params, **cursor, "limit": min(limit - len(found), _MAX_PAGE)}
            answer = answer_of(client, "GET", "/v1/audit", _has("data", "next"), params=page)
            found, cursor = found + answer["data"], {"cursor": answer["next"]} if answer["next"] else None
    if as_json:
        hand_over(json.dumps(found, indent=2))
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


def _pause(path: str, reason: str, until: str | None, gateway: str, key: str | None) -> None:
    body = {"reason": reason, "until": until}
    with calling(gateway, key) as client:
        made = answer_of(client, "POST", path, _has("model", "until"), body=body)
    what = "the tenant" if made["model"] is None else made["model"]
    echo(f"{what} is paused until {made['until'] or 'it is resumed'}; what runs goes on")


def _resume(path: str, gateway: str, key: str | None) -> None:
    with calling(gateway, key) as client:
        answer_of(client, "POST", path, lambda answer: answer is None)
    echo("resumed")


def _control(path: str, gateway: str, key: str | None) -> None:
    with calling(gateway, key) as client:
        worker = answer_of(client, "POST", path, _has("id", "drain_requested_at", "in_flight"))
    running = "unknown" if worker["in_flight"] is None else str(worker["in_flight"])
    told = "drains" if worker["drain_requested_at"] else "works again"
    echo(f"worker {worker['id']} {told} within seconds; requests in flight: {running}")


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda answer: isinstance(answer, dict) and answer.keys() >= {*names}


def _table(found: list[dict[str, Any]]) -> Table:
    names = (Column(title, overflow="fold") for title in ("actor", "action", "target", "before", "after"))
    table = plain_table(Column("at", no_wrap=True), *names)
    for each in found:
        fields = (json.dumps(each[name]) if each[name] else "" for name in ("before", "after"))
        table.add_row(each["created_at"][:19] + "Z", each["actor"], each["action"], each["target"], *fields)
    return table
