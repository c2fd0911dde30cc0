"""The client that verbs call a gateway with, and what they say when a call fails."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from orchestra.cli.options import fail

if TYPE_CHECKING:
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


def answer_of(client: "Client", method: str, path: str, is_expected: Callable[[Any], bool], **more: Any) -> Any:
    """The answer to a call for which the client has no method. If it is not as expected, exit with code 1."""
    answer = client.call(method, path, **more)
    if not is_expected(answer):
        raise fail(f"{method} {path}: this is not how a gateway answers")
    return answer
