"""``orchestra erase`` deletes everything that an owner has, and ``orchestra erasures`` lists it, over HTTP."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.table import Column, Table

from orchestra.cli.calls import answer_of, calling, hand_over_answer
from orchestra.cli.environment import gateway_of
from orchestra.cli.format import clock
from orchestra.cli.options import DEFAULT_DATA, WORKER_STARTER, AsJson, Data, GatewayUrl, Key, command
from orchestra.cli.terminal import echo, harmless, plain_table, print_list
from schemas.api.erasures import MOST_COUNTED, ErasurePage, ErasureResource

if TYPE_CHECKING:
    from orchestra.client import Client

_Model = TypeVar("_Model", bound=BaseModel)

_POLL_SECONDS = 1.0
# After this many looks in a row that found nothing more deleted, look for workers.
_IDLE_LOOKS = 5


def erase(
    owner: Annotated[str, typer.Argument(help="Id of a user, `key:NAME` of a program, or the name of an X-User-ID.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what lists show of it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask on a terminal.")] = False,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Delete everything that an owner has: conversations, requests, files, dead letters, keys, and a user's account.

    Needs a key with the scope `admin`. Waits until all of it is gone, which takes two minutes or longer; workers go on
    if you do not wait, and the same command waits again. Prints what was deleted, and when Kafka will have deleted its
    records. It cannot be undone.
    """
    with calling(gateway_of(gateway, data), key) as client:

        def ask(method: str, path: str, **body: Any) -> ErasureResource:
            return _answer(client, method, path, ErasureResource, **({"body": body} if body else {}))

        found = ask("POST", "/v1/erasures", owner=owner, dry_run=True)
        if not dry_run:
            if not yes and sys.stdin.isatty():
                echo(_counts(found), err=True)
                typer.confirm(harmless(f"Delete all that {owner} has?"), abort=True, err=True)
            found = ask("POST", "/v1/erasures", owner=owner)
            echo(f"erasure {found.id} is accepted: workers delete, which takes two minutes or longer", err=True)
            one = f"/v1/erasures/{found.id}"
            with _going_on(command("erase", owner, data=data), one):
                found = _when_done(client, found, lambda: ask("GET", one))
    if as_json:
        hand_over_answer(found)
        return
    echo(f"{'there are' if dry_run else 'deleted'}: {_counts(found)}")
    for topic, moment in found.topics_free_at.items():
        echo(f"{topic} is free of it at {clock(moment)}")


def erasures(
    *,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Maximum number, newest first.")] = 20,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """List erasures, newest first: which are running, and what has been deleted so far. They do not name the owner.

    Needs a key with the scope `admin`.
    """
    with calling(gateway_of(gateway, data), key) as client:
        page = _answer(client, "GET", f"/v1/erasures?limit={limit}", ErasurePage)
    if as_json:
        hand_over_answer(page)
    elif page.data:
        print_list(_table(page.data))
    else:
        echo("no erasures")


def _table(found: Sequence[ErasureResource]) -> Table:
    table = plain_table(Column("requested", no_wrap=True), Column("erasure", overflow="fold"))
    for each in found:
        ended = f" {clock(each.finished_at)}" if each.finished_at else ""
        table.add_row(clock(each.requested_at), f"{each.id}\n{each.status}{ended}: {_counts(each)}")
    return table


@contextmanager
def _going_on(again: str, path: str) -> Iterator[None]:
    """If waiting ends early, say that the erasure does not, and how to look."""
    from orchestra.client import ClientError

    try:
        yield
    except (ClientError, KeyboardInterrupt, typer.Exit):
        echo(f"the erasure goes on: `{again}` waits for it again, `GET {path}` shows it", err=True)
        raise


def _when_done(client: "Client", found: ErasureResource, look: Callable[[], ErasureResource]) -> ErasureResource:
    """Wait for the end, and say it once if no worker is there to bring it about."""
    idle, told = 0, False
    while found.status == "running":
        time.sleep(_POLL_SECONDS)
        before, found = found, look()
        idle = idle + 1 if found.counts == before.counts else 0
        if idle == _IDLE_LOOKS and not told and not any(worker.alive for worker in client.workers.get().data):
            echo(f"no worker is alive, and workers do the work: start one with {WORKER_STARTER}", err=True)
            told = True
    return found


def _counts(found: ErasureResource) -> str:
    return ", ".join(f"{_count(found, kind)} {kind.replace('_', ' ')}" for kind in found.counts) or "nothing"


def _count(found: ErasureResource, kind: str) -> str:
    count = found.counts[kind]
    return f"at least {count}" if found.status == "counted" and count >= MOST_COUNTED else f"{count}"


def _answer(client: "Client", method: str, path: str, model: type[_Model], **more: Any) -> _Model:
    """The answer to a call, as this model. If it is not one, exit with code 1."""

    def is_one(answer: Any) -> bool:
        try:
            model.model_validate(answer)
        except ValidationError:
            return False
        return True

    return model.model_validate(answer_of(client, method, path, is_one, **more))
