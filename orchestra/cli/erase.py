"""``orchestra erase``: delete everything that an owner has, over HTTP."""

import sys
import time
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from orchestra.cli.calls import answer_of, calling, hand_over_answer
from orchestra.cli.environment import gateway_of
from orchestra.cli.format import clock
from orchestra.cli.options import DEFAULT_DATA, AsJson, Data, GatewayUrl, Key
from orchestra.cli.terminal import echo
from schemas.api.erasures import MOST_COUNTED, ErasureResource

_POLL_SECONDS = 1.0


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
    if you do not wait. Prints what was deleted, and when Kafka will have deleted its records. It cannot be undone.
    """
    with calling(gateway_of(gateway, data), key) as client:

        def ask(method: str, path: str, **body: Any) -> ErasureResource:
            return _read(answer_of(client, method, path, _is_erasure, **({"body": body} if body else {})))

        found = ask("POST", "/v1/erasures", owner=owner, dry_run=True)
        if not dry_run:
            if not yes and sys.stdin.isatty():
                echo(_counts(found), err=True)
                typer.confirm("Delete all of it?", abort=True, err=True)
            found = ask("POST", "/v1/erasures", owner=owner)
            while found.status == "running":
                time.sleep(_POLL_SECONDS)
                found = ask("GET", f"/v1/erasures/{found.id}")
    if as_json:
        hand_over_answer(found)
        return
    echo(f"{'there are' if dry_run else 'deleted'}: {_counts(found)}")
    for topic, moment in found.topics_free_at.items():
        echo(f"{topic} is free of it at {clock(moment)}")


def _counts(found: ErasureResource) -> str:
    return ", ".join(f"{_count(found, kind)} {kind.replace('_', ' ')}" for kind in found.counts) or "nothing"


def _count(found: ErasureResource, kind: str) -> str:
    count = found.counts[kind]
    return f"at least {count}" if found.status == "counted" and count >= MOST_COUNTED else f"{count}"


def _is_erasure(answer: Any) -> bool:
    try:
        _read(answer)
    except ValidationError:
        return False
    return True


def _read(answer: Any) -> ErasureResource:
    return ErasureResource.model_validate(answer)
