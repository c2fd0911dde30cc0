"""``orchestra keys``: manage API keys directly in the database, before anyone can sign in."""

import getpass
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.table import Column, Table

from orchestra.cli.database import on_database
from orchestra.cli.options import DEFAULT_DATA, Data, fail
from orchestra.cli.terminal import echo, print_list
from schemas.api.keys import CreateKey, KeyResource, Scope
from schemas.envelope import DEFAULT_TENANT
from schemas.requests import describe

if TYPE_CHECKING:
    from orchestra.store.audit import Author
    from orchestra.store.database import Database
    from schemas.api.audit import Action

_PAGE = 500

Tenant = Annotated[str, typer.Option(help="Tenant the keys belong to.")]


def build() -> typer.Typer:
    """The verbs of ``orchestra keys``."""
    group = typer.Typer(
        help="Create, list and revoke API keys directly in the database: for the first key, and for emergencies.",
        no_args_is_help=True,
    )
    for verb in (create, list_, revoke):
        group.command(name=verb.__name__.rstrip("_"))(verb)
    return group


def create(
    name: Annotated[str, typer.Argument(help="Name that says what the key is for.")],
    *,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="Scope of the key; repeat for several. [default: read and write]")
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Username of the key's owner. Default: the key belongs to a program.")
    ] = None,
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, max=36500, help="Days until it expires. Default: never.")
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
    data: Data = DEFAULT_DATA,
) -> None:
    """Create an API key and print it alone on stdout; it is shown only this once.

    Uses DATABASE_URL. If that is not set and a stack of `orchestra up` runs on --data, uses that stack's database.
    `KEY=$(orchestra keys create ops --scope admin)` creates the first key of a new deployment.
    """
    expires_at = datetime.now(UTC) + timedelta(days=expires_in_days) if expires_in_days else None
    try:
        wanted = CreateKey(name=name, scopes=scope or [Scope.READ, Scope.WRITE], expires_at=expires_at)
    except ValidationError as error:
        raise fail(describe(error)) from None
    text, kept, first = on_database(data, "orchestra-keys", lambda database: _create(database, tenant, wanted, user))
    echo(text)
    if first:
        echo(f"this is the first key of tenant {tenant!a}: if the name is misspelt, revoke it", err=True)
    until = f"until {_day(kept.expires_at)}" if kept.expires_at else "until it is revoked"
    echo(
        f"key {kept.id} of tenant {tenant!a}, {' '.join(kept.scopes)}, valid {until}; it cannot be shown again",
        err=True,
    )


def list_(*, tenant: Tenant = DEFAULT_TENANT, data: Data = DEFAULT_DATA) -> None:
    """List the API keys, newest first, without their secrets."""
    found = on_database(data, "orchestra-keys", lambda database: _all(database, tenant))
    if not found:
        echo(f"tenant {tenant!a} has no keys", err=True)
        return
    print_list(_table(found))


def _table(keys: list[KeyResource]) -> Table:
    table = Table(Column("id", no_wrap=True), Column("name", overflow="fold"), "what")
    for key in keys:
        told = {"made": key.created_at, "last used": key.last_used_at, "expires": key.expires_at}
        moments = [f"{name} {_day(moment)}" for name, moment in told.items() if moment]
        lines = [" ".join(key.scopes), ", ".join(moments)]
        lines += [f"of user {key.user_id}"] if key.user_id else []
        lines += [f"revoked {_day(key.revoked_at)}"] if key.revoked_at else []
        table.add_row(key.id, key.name, "\n".join(lines))
    return table


def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key: the part between its first two `_`.")],
    *,
    tenant: Tenant = DEFAULT_TENANT,
    data: Data = DEFAULT_DATA,
) -> None:
    """Revoke a key: all gateways refuse it within a minute."""
    if not on_database(data, "orchestra-keys", lambda database: _revoke(database, tenant, key_id)):
        raise fail(f"tenant {tenant!a} has no key with this id")
    echo("revoked", err=True)


async def _create(
    database: "Database", tenant: str, wanted: CreateKey, username: str | None
) -> tuple[str, KeyResource, bool]:
    """The key, its stored record, and whether it is the first of a tenant other than the default one."""
    from orchestra.credentials import new_key
    from orchestra.store import keys, users
    from schemas.api.audit import Action

    found = await users.by_username(database, username) if username is not None else None
    if username is not None and (found is None or found[0].tenant != tenant):
        raise fail(f"tenant {tenant!a} has no user with this name")
    first = tenant != DEFAULT_TENANT and not await keys.page(database, tenant, None, None, 1)
    key = new_key()
    owner = found[0].resource.id if found else None
    kept = await keys.create(database, tenant, key, wanted, owner, by=_by(tenant, Action.KEY_CREATE))
    return key.text, kept, first


async def _all(database: "Database", tenant: str) -> list[KeyResource]:
    from orchestra.store import keys

    found: list[KeyResource] = []
    while page := await keys.page(
        database, tenant, None, (found[-1].created_at, found[-1].id) if found else None, _PAGE
    ):
        found += page
    return found


async def _revoke(database: "Database", tenant: str, id: str) -> bool:
    from orchestra.credentials import is_key_id
    from orchestra.store import keys
    from schemas.api.audit import Action

    return is_key_id(id) and await keys.revoke(database, tenant, None, id, _by(tenant, Action.KEY_REVOKE))


def _by(tenant: str, action: "Action") -> "Author":
    """The user of this machine who runs the command, for the audit."""
    from orchestra.store.audit import Author

    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # Of a container, where the user may have no name.
        name = str(os.getuid())
    return Author(tenant, f"command:{name}", action)


def _day(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")
