"""The client that verbs call a gateway with, what they say when a call fails, and answers as JSON."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from orchestra.cli.options import fail
from orchestra.cli.terminal import echo, hand_over

if TYPE_CHECKING:
    from pydantic import BaseModel

    from orchestra.client import Client


@contextmanager
def calling(gateway: str, key: str | None) -> Iterator["Client"]:
    """A client of this gateway, which repeats no call. If one fails, exit with code 1 and the reason."""
    from orchestra.cli.ask import Where

    with Where(gateway, key).client() as client, failing():
        yield client


@contextmanager
def failing(about: str = "") -> Iterator[None]:
    """Exit with code 1 and the reason if a call fails. ``about``: what it was about."""
    from orchestra.client import ClientError

    try:
        yield
    except ClientError as error:
        raise fail(f"{about}{error.code}: {error.detail}" if error.code else f"{about}{error}") from None


def delete_each(gateway: str, key: str | None, ids: Sequence[Any], delete: Callable[["Client", Any], None]) -> None:
    """Delete each of these, show the errors, and say how many are deleted. Exit code 1 if some are not."""
    failed = 0
    with calling(gateway, key) as client:
        for each in ids:
            try:
                with failing(f"{each}: "):
                    delete(client, each)
            except typer.Exit:
                failed += 1  # The error is shown; the others are deleted all the same.
    echo(f"{len(ids) - failed} deleted, {failed} not", err=True)
    if failed:
        raise typer.Exit(1)


def as_answered(answer: "BaseModel") -> Any:
    """An answer as the gateway wrote it: without the fields that it left out."""
    return answer.model_dump(mode="json", exclude_unset=True, warnings=False)


def hand_over_answer(answer: "BaseModel") -> None:
    """Print an answer as JSON."""
    hand_over(json.dumps(as_answered(answer), indent=2))


def answer_of(client: "Client", method: str, path: str, is_expected: Callable[[Any], bool], **more: Any) -> Any:
    """The answer to a call for which the client has no method. If it is not as expected, exit with code 1."""
    answer = client.call(method, path, **more)
    if not is_expected(answer):
        raise fail(f"{method} {path}: this is not how a gateway answers")
    return answer
