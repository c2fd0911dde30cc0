"""``orchestra password``: change your own password, over HTTP."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestra.cli.environment import gateway_of
from orchestra.cli.options import DEFAULT_DATA, Data, GatewayUrl, fail
from orchestra.cli.terminal import echo

if TYPE_CHECKING:
    import httpx

_SECONDS = 60.0


def password(
    username: Annotated[str, typer.Argument(help="Your username.")],
    *,
    keep_keys: Annotated[
        bool, typer.Option("--keep-keys", help="Keep your API keys. Default: they are revoked.")
    ] = False,
    gateway: GatewayUrl = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Change your own password. You are signed out everywhere, and your API keys are revoked.

    Asks for the old password and twice for the new one. When standard input is not a terminal, its first two lines are
    the old and the new password. Exit code 1 if the password was not changed.
    """
    import httpx

    where = gateway_of(gateway, data)
    old, new = _asked() if sys.stdin.isatty() else _read()
    try:
        with httpx.Client(base_url=where, trust_env=False, timeout=_SECONDS) as client:
            token = _token(client.post("/token", data={"username": username, "password": old}))
            wanted = {"old_password": old, "password": new, "keep_keys": keep_keys}
            headers = {"Authorization": f"Bearer {token}"}
            _check(client.put("/v1/users/me/password", json=wanted, headers=headers))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise fail(f"the gateway at {where} did not answer ({type(error).__name__})") from None
    echo("changed")


def _asked() -> tuple[str, str]:
    old: str = typer.prompt("Old password", hide_input=True, err=True)
    new: str = typer.prompt("New password", hide_input=True, confirmation_prompt="Repeat the new password", err=True)
    return old, new


def _read() -> tuple[str, str]:
    try:
        lines = sys.stdin.buffer.read().decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise typer.BadParameter("standard input is not UTF-8") from None
    if len(lines) < 2 or not lines[1]:
        raise typer.BadParameter("standard input must have two lines: the old password and the new one")
    return lines[0], lines[1]


def _token(response: "httpx.Response") -> str:
    match _check(response):
        case {"access_token": str(token)} if token.isascii() and token.isprintable():
            return token
    raise _nonsense(response)


def _check(response: "httpx.Response") -> Any:
    """The JSON of a successful response; anything else ends this with exit code 1."""
    try:
        answer = response.json() if response.content else None
    except ValueError:
        raise _nonsense(response) from None
    match answer:
        case {"code": code, "detail": detail} if response.is_error:
            raise fail(f"{detail} ({code})")
    if not response.is_success:
        raise _nonsense(response)
    return answer


def _nonsense(response: "httpx.Response") -> typer.Exit:
    return fail(f"the gateway at {response.url.host} returned status {response.status_code}, and not as a gateway does")
