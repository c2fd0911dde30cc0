"""``orchestra queue``, ``workers``, ``lag`` and ``stats``: what an operator sees of a deployment, over HTTP."""

from collections.abc import Sequence
from typing import Annotated, Literal

import typer
from rich.table import Column, Table
from rich.text import Text

from orchestra.cli.calls import calling, hand_over_answer
from orchestra.cli.environment import gateway_of
from orchestra.cli.format import brief, clock, compact, counted, day_and_minute, span
from orchestra.cli.options import DEFAULT_DATA, WORKER_STARTER, AsJson, Data, GatewayUrl, Key
from orchestra.cli.terminal import Terminal, echo, plain_table
from schemas.api.queue import DepthOfModel, DepthOfPriority, NextRequest
from schemas.api.stats import StatsPoint
from schemas.api.topics import TopicState
from schemas.api.workers import WorkerResource

_MINUTE = 60
# The author of a pause where callers need no credentials.
_NOBODY = "nobody"
_STYLES = {"alive": "green", "draining": "yellow", "lost": "red"}

By = Literal["model", "outcome"]


def queue(*, as_json: AsJson = False, gateway: GatewayUrl = None, key: Key = None, data: Data = DEFAULT_DATA) -> None:
    """Show what waits in the queue: how much, for how long, which models refuse, and what is next.

    Needs a key with the scope `operate`. A `+` behind a number means that counting stopped there.
    """
    with calling(gateway_of(gateway, data), key) as client:
        found = client.queue.get()
    if as_json:
        hand_over_answer(found)
        return
    counts = {"in progress": found.in_progress, "runnable": found.runnable, "delayed": found.delayed}
    told = ", ".join(f"{counted(count)} {name}" for name, count in counts.items())
    echo(f"{found.open} open: {told}, {counted(found.waiting)} behind another turn")
    if found.unread:
        echo(f"{found.unread:,} accepted, not read yet by a worker")
    if found.by_priority:
        Terminal().print(_by_priority(found.by_priority))
    if found.by_model:
        Terminal().print(_by_model(found.by_model))
    for pause in found.pauses:
        what = "the tenant" if pause.model is None else pause.model
        by = "" if pause.paused_by == _NOBODY else f" by {pause.paused_by}"
        until = clock(pause.until) if pause.until else "it is resumed"
        echo(f"{what} is paused{by} until {until}{': ' * bool(pause.reason)}{pause.reason}")
    for model in found.held:
        echo(f"{model.model} refuses calls until {clock(model.until)}: {model.code}: {model.detail}")
    if found.head:
        Terminal().print(_next(found.head))


def workers(*, as_json: AsJson = False, gateway: GatewayUrl = None, key: Key = None, data: Data = DEFAULT_DATA) -> None:
    """List the workers: release, slots, partitions, and the models that they hold back.

    Needs a key with the scope `operate`. Exit code 1 if no worker is alive.
    """
    with calling(gateway_of(gateway, data), key) as client:
        found = client.workers.get()
    if as_json:
        hand_over_answer(found)
    elif found.data:
        Terminal().print(_workers(found.data))
        for worker in found.data:
            for model in worker.models or ():
                if model.held_until:
                    until = clock(model.held_until)
                    echo(f"{worker.id} holds {model.model} back until {until}: {model.code}: {model.detail}")
    if not any(worker.alive for worker in found.data):
        echo(f"no worker is alive; start one with {WORKER_STARTER}", err=True)
        raise typer.Exit(1)


def lag(*, as_json: AsJson = False, gateway: GatewayUrl = None, key: Key = None, data: Data = DEFAULT_DATA) -> None:
    """Show the lag of each topic, and which partitions have records that were not read yet.

    Needs a key with the scope `operate`.
    """
    with calling(gateway_of(gateway, data), key) as client:
        found = client.topics.get()
    if as_json:
        hand_over_answer(found)
        return
    Terminal().print(_topics(found.data))
    behind = [(topic.topic, each) for topic in found.data for each in topic.partitions if each.lag]
    for topic, each in behind:
        echo(f"{topic}/{each.partition}: read {each.read} of {each.end}, {each.lag} behind")


def stats(
    *,
    from_: Annotated[
        str | None, typer.Option("--from", help="Start, as 2026-01-31T12:00:00Z. Default: an hour before the end.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="End. Default: now.")] = None,
    step: Annotated[int, typer.Option(min=1, help="Minutes of each line.")] = 10,
    by: Annotated[By | None, typer.Option(help="Break each line down by this.")] = None,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Show how many requests ended, what they used, and how long they took.

    Needs a key with the scope `operate`.
    """
    with calling(gateway_of(gateway, data), key) as client:
        found = client.stats.get(from_=from_, to=to, step=step * _MINUTE, by=by)
    if as_json:
        hand_over_answer(found)
    elif found.data:
        Terminal().print(_stats(found.data, by))
    else:
        echo("nothing ended in that time")


def _by_priority(rows: Sequence[DepthOfPriority]) -> Table:
    return _depth("priority", [(f"{row.priority}", "+" * row.more, row) for row in rows])


def _by_model(rows: Sequence[DepthOfModel]) -> Table:
    return _depth("model", [("all others" if row.model is None else row.model, "", row) for row in rows])


def _depth(by: str, rows: Sequence[tuple[str, str, DepthOfPriority | DepthOfModel]]) -> Table:
    table = plain_table(Column(by, overflow="fold"), *_numbers("runnable", "held", "paused", "delayed", "oldest"))
    for name, more, row in rows:
        counts = (f"{row.runnable}{more}", f"{row.held}", f"{row.paused}", f"{row.delayed}")
        table.add_row(name, *counts, span(row.oldest_seconds))
    return table


def _next(rows: Sequence[NextRequest]) -> Table:
    """One line for each, and one below it with what is not a number."""
    table = plain_table(Column("next", overflow="fold"), *_numbers("priority", "waited"))
    for row in rows:
        about = ", ".join(each for each in (row.model, row.owner, row.last_error) if each)
        table.add_row(f"{row.id}\n  {about}", f"{row.priority}", span(row.waited_seconds))
    return table


def _workers(rows: Sequence[WorkerResource]) -> Table:
    """One line for each, and one below it with what it is and reads."""
    table = plain_table(Column("worker", overflow="fold"), "state", *_numbers("since, UTC", "slots"))
    for row in rows:
        state = state_of(row)
        about = [f"release {row.version}"] if row.version else []
        if row.topics is not None:
            about.append(f"{sum(len(topic.partitions) for topic in row.topics)} partitions")
        name = f"{row.id}\n  {', '.join(about)}" if about else f"{row.id}"
        table.add_row(name, Text(state, _STYLES[state]), day_and_minute(row.started_at), slots_of(row))
    return table


def state_of(worker: WorkerResource) -> str:
    """Whether a worker takes turns, in a word."""
    if not worker.alive:
        return "lost"
    return "draining" if worker.draining or worker.drain_requested_at else "alive"


def slots_of(worker: WorkerResource) -> str:
    """How many slots of a worker are taken, and how many it has."""
    return "-" if worker.capacity is None else f"{worker.in_flight}/{worker.capacity}"


def _topics(rows: Sequence[TopicState]) -> Table:
    table = plain_table(Column("topic", overflow="fold"), *_numbers("partitions", "records", "behind", "last record"))
    for row in rows:
        times = [each.last_record_at for each in row.partitions if each.last_record_at]
        kept = sum(each.end - each.start for each in row.partitions)
        behind = "-" if row.lag is None else f"{row.lag}"
        last = clock(max(times)) if times else "-"
        table.add_row(row.topic, f"{len(row.partitions)}", f"{kept}", behind, last)
    return table


def _stats(rows: Sequence[StatsPoint], by: By | None) -> Table:
    """One line for each step; divided by something, the steps are lines of their own above their parts."""
    numbers = _numbers("ended", "no\nanswer", "tokens\nin", "\nout", "\ncost")
    times = _numbers("queue\np50", "\np95", "model\np50", "\np95")
    table = plain_table(Column(f"from, UTC\n{by or ''}", overflow="fold"), *numbers, *times)
    table.collapse_padding = True
    step = None
    for row in rows:
        if by and row.at != step:
            table.add_row(day_and_minute(row.at))
            step = row.at
        name = (row.key or "all others") if by else day_and_minute(row.at)
        used = (compact(row.input_tokens), compact(row.output_tokens), f"{row.cost:.2f}")
        took = (brief(seconds) for part in (row.queue_seconds, row.model_seconds) for seconds in (part.p50, part.p95))
        unanswered = row.failed + row.cancelled + row.expired
        table.add_row(name, compact(row.requests), compact(unanswered), *used, *took)
    return table


def _numbers(*titles: str) -> list[Column]:
    return [Column(title, justify="right", no_wrap=True) for title in titles]
