"""``orchestra requests``: one request, and why it waits, over HTTP."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from uuid import UUID

import typer

from orchestra.cli.calls import answer_of, calling
from orchestra.cli.environment import gateway_of
from orchestra.cli.operations import clock, span
from orchestra.cli.options import DEFAULT_DATA, AsJson, Data, GatewayUrl, Key
from orchestra.cli.steering import cancel, change, retry
from orchestra.cli.terminal import echo, hand_over

_PATH = "/v1/requests"
_OPEN = ("pending", "in_progress")

Id = Annotated[UUID, typer.Argument(help="Id of the request.")]


def build() -> typer.Typer:
    """The verbs of ``orchestra requests``."""
    group = typer.Typer(help="Requests: show, cancel, retry, change; why one waits.", no_args_is_help=True)
    for verb in (show, cancel, retry, change):
        group.command()(verb)
    return group


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
        found = answer_of(client, "GET", f"{_PATH}/{request}", _is_request)
        waits = None
        if found["status"] in _OPEN:
            waits = answer_of(client, "GET", f"{_PATH}/{request}/waiting", _is_state)
    if as_json:
        hand_over(json.dumps({**found, "waiting": waits} if waits else found, indent=2))
        return
    for line in (*_facts(found), *_waits(waits or {}), *_texts(found)):
        echo(line)


def _facts(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"request {found['id']}: {found['status']}{', cancel requested' if found['cancel_requested'] else ''}"
    for name in (
        "conversation_id",
        "owner",
        "model",
        "task_type",
        "priority",
        "worker",
        "trace_id",
        "retry_of",
        "cost",
    ):
        if found.get(name) is not None:
            yield f"{name.replace('_', ' ')}: {found[name]}"
    for name in ("created_at", "not_before", "runnable_at", "started_at", "finished_at", "deadline"):
        if found.get(name):
            yield f"{name.removesuffix('_at').replace('_', ' ')}: {clock(found[name])}"
    if record := found.get("record"):
        yield f"record: {record['topic']}/{record['partition']} at {record['offset']}"
    if found.get("attempts"):
        yield f"attempts: {found['attempts']}; tries: {found.get('tries')} of {found.get('max_tries')}"
    for error in found.get("errors") or ():
        yield f"attempt {error['attempt']} failed at {clock(error['at'])}: {error['code']}: {error['detail']}"
    if error := found.get("error"):
        yield f"failed: {error['code']}: {error['detail']}"


def _waits(state: Mapping[str, Any]) -> Iterator[str]:
    for reason in state.get("reasons", ()):
        until = f" Until {clock(reason['until'])}." if reason["until"] else ""
        behind = f" It waits for {reason['request_id']}." if reason.get("request_id") else ""
        yield f"waits: {reason['code']}: {reason['detail']}{until}{behind}"
    if state.get("position") is not None:
        yield f"position: {state['position']}"
    if state.get("estimate_seconds") is not None:
        yield f"starts in about {span(state['estimate_seconds'])}"


def _texts(found: Mapping[str, Any]) -> Iterator[str]:
    for message in found.get("messages") or ():
        content = message.get("content")
        yield f"{message['role']}: {content if isinstance(content, str) else json.dumps(content)}"
    if found.get("reply") is not None:
        yield f"assistant: {found['reply']}"


def _is_request(answer: Any) -> bool:
    return isinstance(answer, dict) and answer.keys() >= {"id", "status", "cancel_requested"}


def _is_state(answer: Any) -> bool:
    return isinstance(answer, dict) and isinstance(answer.get("reasons"), list)
