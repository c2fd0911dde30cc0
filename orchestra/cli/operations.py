"""``orchestra queue``, ``workers``, ``lag`` and ``stats``: what an operator sees of a deployment, over HTTP."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from orchestra.cli.calls import answer_of, calling
from orchestra.cli.environment import gateway_of
from orchestra.cli.options import DEFAULT_DATA, AsJson, Data, GatewayUrl, Key
from orchestra.cli.terminal import Terminal, echo, hand_over, plain_table

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR


class By(StrEnum):
    """What statistics are divided by."""

    MODEL = "model"
    OUTCOME = "outcome"


def queue(*, as_json: AsJson = False, gateway: GatewayUrl = None, key: Key = None, data: Data = DEFAULT_DATA) -> None:
    """Show what waits in the queue: how much, for how long, which models refuse, and what is next.

    Needs a key with the scope `operate`. A `+` behind a number means that counting stopped there.
    """
    with calling(gateway_of(gateway, data), key) as client:
        found = answer_of(client, "GET", "/v1/queue", _has("by_priority", "by_model", "held", "pauses", "head"))
    if as_json:
        hand_over(json.dumps(found, indent=2))
        return
    counts = (f"{_count(found[name])} {name.replace('_', ' ')}" for name in ("in_progress", "runnable", "delayed"))
    echo(f"{found['open']} open: {', '.join(counts)}, {_count(found['waiting'])} behind another turn")
    for by in ("priority", "model"):
        if rows := found[f"by_{by}"]:
            Terminal().print(_depth(by, rows))
    for pause in found["pauses"]:
        what = "the tenant" if pause["model"] is None else pause["model"]
        until = clock(pause["until"]) if pause["until"] else "it is resumed"
        echo(f"{what} is paused by {pause['paused_by']} until {until}{': ' * bool(pause['reason'])}{pause['reason']}")
    for model in found["held"]:
        echo(f"{model['model']} refuses calls until {clock(model['until'])}: {model['code']}: {model['detail']}")
    if found["head"]:
        Terminal().print(_next(found["head"]))


def workers(*, as_json: AsJson = False, gateway: GatewayUrl = None, key: Key = None, data: Data = DEFAULT_DATA) -> None:
    """List the workers: release, slots, partitions, and the models that they hold back.

    Needs a key with the scope `operate`. Exit code 1 if no worker is alive.
    """
    with calling(gateway_of(gateway, data), key) as client:
        found = answer_of(client, "GET", "/v1/workers", _has("data"))
    if as_json:
        hand_over(json.dumps(found, indent=2))
    elif found["data"]:
        Terminal().print(_workers(found["data"]))
        for worker in found["data"]:
            for model in worker["models"] or ():
                if model["held_until"]:
                    until = clock(model["held_until"])
                    echo(
                        f"{worker['id']} holds {model['model']} back until {until}: {model['code']}: {model['detail']}"
                    )
    if not any(worker["alive"] for worker in found["data"]):
        echo("no worker is alive; start one: `orchestra worker`", err=True)
        raise typer.Exit(1)


def lag(*, as_json: AsJson = False, gateway: GatewayUrl = None, key: Key = None, data: Data = DEFAULT_DATA) -> None:
    """Show how far the topics are written and read, and the partitions that are not read to their ends.

    Needs a key with the scope `operate`.
    """
    with calling(gateway_of(gateway, data), key) as client:
        found = answer_of(client, "GET", "/v1/topics", _has("data"))
    if as_json:
        hand_over(json.dumps(found, indent=2))
        return
    Terminal().print(_topics(found["data"]))
    behind = [(topic["topic"], each) for topic in found["data"] for each in topic["partitions"] if each["lag"]]
    for topic, each in behind:
        echo(f"{topic}/{each['partition']}: read {each['read']} of {each['end']}, {each['lag']} behind")


def stats(
    *,
    from_: Annotated[
        str | None, typer.Option("--from", help="Start, as 2026-01-31T12:00:00Z. Default: an hour before the end.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="End. Default: now.")] = None,
    step: Annotated[int, typer.Option(min=1, help="Minutes of each line.")] = 10,
    by: Annotated[By | None, typer.Option(help="Divide each line by this.")] = None,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Show how many requests ended, what they used, and how long they took.

    Needs a key with the scope `operate`.
    """
    asked = {"from": from_, "to": to, "step": step * _MINUTE, "by": by and by.value}
    params = {name: value for name, value in asked.items() if value is not None}
    with calling(gateway_of(gateway, data), key) as client:
        found = answer_of(client, "GET", "/v1/stats", _has("data"), params=params)
    if as_json:
        hand_over(json.dumps(found, indent=2))
    elif found["data"]:
        Terminal().print(_stats(found["data"], by))
    else:
        echo("nothing ended in that time")


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda answer: isinstance(answer, dict) and all(isinstance(answer.get(name), list) for name in names)


def _depth(by: str, rows: Iterable[Mapping[str, Any]]) -> Table:
    table = plain_table(Column(by, overflow="fold"), *_numbers("runnable", "held", "paused", "delayed", "oldest"))
    for row in rows:
        name = "all others" if row[by] is None else str(row[by])
        more = "+" if row.get("more") else ""
        counts = (str(row["runnable"]) + more, str(row["held"]), str(row["paused"]), str(row["delayed"]))
        table.add_row(name, *counts, span(row["oldest_seconds"]))
    return table


def _next(rows: Iterable[Mapping[str, Any]]) -> Table:
    names = (Column(title, overflow="fold") for title in ("model", "owner", "last error"))
    table = plain_table(Column("next", no_wrap=True), *_numbers("priority", "waited"), *names)
    for row in rows:
        waited, owner, error = span(row["waited_seconds"]), row["owner"] or "-", row["last_error"] or "-"
        table.add_row(row["id"], str(row["priority"]), waited, row["model"], owner, error)
    return table


def _workers(rows: Iterable[Mapping[str, Any]]) -> Table:
    table = plain_table(Column("worker", no_wrap=True), "state", "release", *_numbers("since", "slots", "partitions"))
    for row in rows:
        state = "draining" if row["draining"] or row["drain_requested_at"] else "alive"
        shown = Text(state, "green" if state == "alive" else "yellow") if row["alive"] else Text("lost", "red")
        slots = "-" if row["capacity"] is None else f"{row['in_flight']}/{row['capacity']}"
        partitions = "-" if row["topics"] is None else str(sum(len(topic["partitions"]) for topic in row["topics"]))
        table.add_row(row["id"], shown, row["version"] or "-", clock(row["started_at"]), slots, partitions)
    return table


def _topics(rows: Iterable[Mapping[str, Any]]) -> Table:
    table = plain_table(Column("topic", overflow="fold"), *_numbers("partitions", "records", "behind", "last record"))
    for row in rows:
        partitions = row["partitions"]
        times = [each["last_record_at"] for each in partitions if each["last_record_at"]]
        kept = sum(each["end"] - each["start"] for each in partitions)
        behind = "-" if row["lag"] is None else str(row["lag"])
        last = clock(max(times)) if times else "-"
        table.add_row(row["topic"], str(len(partitions)), str(kept), behind, last)
    return table


def _stats(rows: Iterable[Mapping[str, Any]], by: By | None) -> Table:
    name = [Column(by.value, overflow="fold")] if by else []
    numbers = _numbers("ended", "unanswered", "tokens in", "out", "cost", "queue p50", "p95", "model p50", "p95")
    table = plain_table(Column("from", no_wrap=True), *name, *numbers)
    for row in rows:
        keys = [row["key"] or "all others"] if by else []
        unanswered = row["failed"] + row["cancelled"] + row["expired"]
        times = (span(row[part][share]) for part in ("queue_seconds", "model_seconds") for share in ("p50", "p95"))
        used = (f"{row['input_tokens']:,}", f"{row['output_tokens']:,}", f"{row['cost']:.2f}")
        table.add_row(clock(row["at"]), *keys, str(row["requests"]), str(unanswered), *used, *times)
    return table


def _numbers(*titles: str) -> list[Column]:
    return [Column(title, justify="right", no_wrap=True) for title in titles]


def _count(counted: Mapping[str, Any]) -> str:
    return f"{counted['count']}{'+' if counted['more'] else ''}"


def clock(moment: str) -> str:
    """A time in UTC, without parts of a second."""
    return datetime.fromisoformat(moment).strftime("%Y-%m-%d %H:%M:%SZ")


def span(seconds: float | None) -> str:
    """A length of time in the unit that fits."""
    if seconds is None:
        return "-"
    for unit, size in (("d", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"
