"""The client that verbs call a gateway with, what they say when a call fails, and answers as JSON."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from orchestra.cli.options import fail
from orchestra.cli.terminal import echo, hand_over
from schemas.errors import ErrorCode

if TYPE_CHECKING:
    from pydantic import BaseModel

    from orchestra.client import Client, ClientError

# How a gateway begins the detail of a refusal: with the place of a field.
_PLACE = re.compile(r"([a-z_]+(?:\.(?:[a-z_]+|\d+))*): (.+)", re.DOTALL)


class RefusedValueError(typer.BadParameter):
    """A gateway refused the value of a field. ``failure``: what to print if the field is no option of the verb."""

    def __init__(self, place: str, reason: str, failure: str) -> None:
        super().__init__(reason)
        self._place = [word for word in place.split(".") if not word.isdigit()]
        self.failure = failure

    def is_of_option(self) -> bool:
        """Whether the verb has such an option, which is then named.

        The parameter has the name of the API's field. ``of_`` is before that of a filter where both would be equal.
        """
        assert self.ctx
        options = {each.name: each for each in self.ctx.command.params if each.param_type_name == "option"}
        name = self._place[-1]
        names = [f"of_{name}", name] if self._place[0] == "filter" else [name, f"{name}_", f"of_{name}"]
        self.param_hint = next((options[each].opts[0] for each in names if each in options), None)
        return self.param_hint is not None


@contextmanager
def calling(gateway: str, key: str | None) -> Iterator["Client"]:
    """A client of this gateway, which repeats no call. If one fails, exit with the reason: see ``failing``."""
    from orchestra.cli.ask import Where

    with Where(gateway, key).client() as client, failing():
        yield client


@contextmanager
def failing(about: str = "") -> Iterator[None]:
    """Exit with the reason if a call fails: code 2 for the value of an option, otherwise 1.

    ``about``: which one of many things the call was about; then it is code 1.
    """
    from orchestra.client import ClientError

    try:
        yield
    except ClientError as error:
        told = f"{about}{error.code}: {error.detail}" if error.code else f"{about}{error}"
        if not about:
            check_value(error, told)
        raise fail(told) from None


def check_value(error: "ClientError", failure: str) -> None:
    """Raise ``RefusedValueError`` if a gateway refused the value of a field."""
    if error.code == ErrorCode.INVALID_REQUEST and (found := _PLACE.fullmatch(error.detail)):
        raise RefusedValueError(found[1], found[2], failure) from None


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
