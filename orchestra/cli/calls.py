"""Calls of a gateway that verbs make, and what they say when one fails."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from orchestra.cli.options import fail

if TYPE_CHECKING:
    import httpx

_SECONDS = 60.0


def calling(gateway: str, key: str | None) -> "httpx.Client":
    """A client of this gateway."""
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        return httpx.Client(base_url=gateway, headers=headers, trust_env=False, timeout=_SECONDS)
    except httpx.InvalidURL as error:
        raise fail(f"{gateway} is not a gateway address: {error}") from None


def answer_of(
    client: "httpx.Client", method: str, path: str, is_expected: Callable[[Any], bool], about: str = "", **more: Any
) -> Any:
    """The body of a response that is a success and as expected; anything else ends the verb with exit code 1."""
    import httpx

    try:
        response = client.request(method, path, **more)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise fail(f"{about}{name_of(client)} did not answer ({type(error).__name__})") from None
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if response.is_success and is_expected(answer):
        return answer
    raise refused(client, response, about)


def name_of(client: "httpx.Client") -> str:
    """How an error refers to the gateway."""
    return f"the gateway at {client.base_url.netloc.decode()}"


def refused(client: "httpx.Client", response: "httpx.Response", about: str = "") -> typer.Exit:
    """Print why this response, which has been read, is of no use. Raise the result to exit with code 1."""
    try:
        answer: Any = response.json()
    except ValueError:
        answer = None
    match answer:
        case {"code": code, "detail": detail} if response.is_error:
            return fail(f"{about}{code}: {detail}")
    return fail(f"{about}{name_of(client)} returned status {response.status_code}, and not as a gateway does")
