"""``orchestra requests cancel``, ``retry`` and ``change``: act on requests, by their ids or by filters, over HTTP."""

import inspect
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from orchestra.cli.calls import answer_of, calling
from orchestra.cli.environment import gateway_of
from orchestra.cli.options import DEFAULT_DATA, AsJson, Data, GatewayUrl, Key
from orchestra.cli.terminal import echo, hand_over
from schemas.api.requests import RequestFilter
from schemas.api.steering import MAX_AT_ONCE

if TYPE_CHECKING:
    from orchestra.client import Client

_PATH = "/v1/requests"
_DEFAULT = "default"

Ids = Annotated[list[UUID] | None, typer.Argument(help="Ids of the requests; instead of filters.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show how many requests would be done, and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask on a terminal.")]


def _with_filters(verb: Callable[..., None]) -> Callable[..., None]:
    """Add a flag for each filter of the list. The verb gets those that are given, as its ``filter``.

    A filter named like another option of the verb becomes ``--of-NAME``.
    """
    of_verb = {name: each for name, each in inspect.signature(verb).parameters.items() if name != "filter"}
    flags: dict[str, inspect.Parameter] = {}
    for name, field in RequestFilter.model_fields.items():
        if name == "id":
            continue  # The verb takes ids without a flag.
        flag = f"of_{name}" if name in of_verb else name
        option = typer.Option(f"--{flag.replace('_', '-')}", help=field.description)
        flags[name] = inspect.Parameter(
            flag, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
        )

    def with_filters(**given: Any) -> None:
        texts = {name: given.pop(each.name) for name, each in flags.items()}
        verb(**given, filter={name: text for name, text in texts.items() if text is not None})

    parameters = [*of_verb.values(), *flags.values()]
    with_filters.__name__, with_filters.__doc__ = verb.__name__, verb.__doc__
    with_filters.__annotations__ = {each.name: each.annotation for each in parameters}
    with_filters.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return with_filters


@_with_filters
def cancel(
    ids: Ids = None,
    *,
    filter: Mapping[str, str],
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Cancel requests that have not ended: the named ones, or all that match the filters.

    Shows first how many there are. Exit code 1 if some were not cancelled.
    """
    act = _Act("cancel", "cancelled", _selections(ids, filter), {})
    act.run(gateway_of(gateway, data), key, dry_run=dry_run, yes=yes, as_json=as_json)


@_with_filters
def retry(
    ids: Ids = None,
    *,
    filter: Mapping[str, str],
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Retry failed, expired and cancelled requests, as new ones: the named ones, or all that match the filters.

    Shows first how many there are. A request is retried once, so the command can be repeated. Exit code 1 if some were
    not retried.
    """
    act = _Act("retry", "retried", _selections(ids, filter), {})
    act.run(gateway_of(gateway, data), key, dry_run=dry_run, yes=yes, as_json=as_json)


@_with_filters
def change(
    ids: Ids = None,
    *,
    priority: Annotated[int | None, typer.Option(min=0, max=9, help="New priority; higher runs first.")] = None,
    not_before: Annotated[
        str | None, typer.Option(help="Do not start earlier, as 2026-01-31T12:00:00Z; `default`: no such time.")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(help="Expire if not answered by then; `default`: an hour after it may start.")
    ] = None,
    filter: Mapping[str, str],
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Change requests that no worker runs yet: the named ones, or all that match the filters.

    Shows first how many there are. Exit code 1 if some were not changed.
    """
    url = gateway_of(gateway, data)
    given = {"priority": priority, "not_before": not_before, "deadline": deadline}
    wanted = {name: None if value == _DEFAULT else value for name, value in given.items() if value is not None}
    if not wanted:
        raise typer.BadParameter("give at least one of --priority, --not-before, --deadline")
    act = _Act("change", "changed", _selections(ids, filter), {"change": wanted})
    act.run(url, key, dry_run=dry_run, yes=yes, as_json=as_json)


def _selections(ids: Sequence[UUID] | None, filter: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """What to select, in the bodies of as many calls."""
    if bool(ids) == bool(filter):
        raise typer.BadParameter("give the ids of requests, or at least one filter such as --status or --model")
    texts = [str(id) for id in ids or ()]
    named = [{"ids": texts[at : at + MAX_AT_ONCE]} for at in range(0, len(texts), MAX_AT_ONCE)]
    return [*named] or [{"filter": filter}]


class _Act:
    """Calls of one route for many requests. ``done``: what is done with each. ``more``: other fields of the bodies."""

    def __init__(self, verb: str, done: str, selections: Sequence[Mapping[str, Any]], more: Mapping[str, Any]) -> None:
        self._verb = verb
        self._done = done
        self._selections = selections
        self._more = more

    def run(self, gateway: str, key: str | None, *, dry_run: bool, yes: bool, as_json: bool) -> None:
        """Count, ask on a terminal, then act."""
        with calling(gateway, key) as client:
            told = self._told(client, dry_run=True)
            if not dry_run:
                echo(f"{told['matched']} requests, {self._line(told, 'would be ')}", err=True)
                if told["done"]:
                    if not yes and sys.stdin.isatty():
                        typer.confirm(f"{self._verb} {told['done']} requests?", abort=True, err=True)
                    told = self._told(client, dry_run=False)
        if "priority" in told["warnings"]:
            echo("the priority is lowered to what this key may use", err=True)
        if as_json:
            hand_over(json.dumps({name: told[name] for name in ("matched", "done", "skipped")}, indent=2))
        else:
            echo(self._line(told, "would be " if dry_run else ""))
        if told["skipped"] and not dry_run:
            raise typer.Exit(1)

    def _told(self, client: "Client", *, dry_run: bool) -> dict[str, Any]:
        """The sums of all calls."""
        matched, done, skipped, warnings = 0, 0, Counter[str](), set[str]()
        for answer in self._answers(client, dry_run=dry_run):
            matched, done = matched + answer["matched"], done + answer["done"]
            skipped.update({each["code"]: each["count"] for each in answer["skipped"]})
            warnings.update(answer.get("warnings", ()))
        return {"matched": matched, "done": done, "skipped": dict(sorted(skipped.items())), "warnings": warnings}

    def _answers(self, client: "Client", *, dry_run: bool) -> Iterator[dict[str, Any]]:
        for selection in self._selections:
            body: dict[str, Any] = {**selection, **self._more, "dry_run": dry_run}
            while True:
                answer = answer_of(client, "POST", f"{_PATH}/{self._verb}", _is_answer, body=body)
                yield answer
                if answer["next"] is None:
                    break
                body["cursor"] = answer["next"]

    def _line(self, told: Mapping[str, Any], would_be: str) -> str:
        reasons = ", ".join(f"{code} {count}" for code, count in told["skipped"].items())
        others = f"; {sum(told['skipped'].values())} not: {reasons}" if reasons else ""
        return f"{told['done']} {would_be}{self._done}{others}"


def _is_answer(answer: Any) -> bool:
    match answer:
        case {"matched": int(), "done": int(), "skipped": list(), "next": str() | None}:
            return True
    return False
