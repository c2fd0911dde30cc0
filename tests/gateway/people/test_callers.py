from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import Request
from structlog.testing import capture_logs

from gateway.people import callers as module
from gateway.people.callers import Callers
from gateway.people.principal import EVERYTHING, Principal
from gateway.people.tokens import Tokens, WebSession
from gateway.timings import Timings
from orchestra.store import keys, users
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.keys import Session
from schemas.api.keys import Scope
from schemas.errors import ErrorCode, OrchestraError
from tests.support.fakes import Calls, away, running
from tests.support.people import Clock, key_id, make_key, make_user
from tests.support.ports import free_port
from tests.support.store import connect
from tests.support.waiting import eventually

TOKENS = Tokens([b"s" * 32])
READ, WRITE, ADMIN = Scope.READ, Scope.WRITE, Scope.ADMIN
PAST, SOON = datetime(2020, 1, 1, tzinfo=UTC), timedelta(hours=1)


def call(credentials: str | None = None, *, user: str | bytes | None = None, scheme: str = "Bearer") -> Request:
    """A call with these credentials and X-User-ID."""
    headers = [] if credentials is None else [(b"authorization", f"{scheme} {credentials}".encode())]
    if user is not None:
        headers.append((b"x-user-id", user if isinstance(user, bytes) else user.encode()))
    return Request({"type": "http", "headers": headers})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def callers(database: Database, clock: Clock) -> Callers:
    return Callers(database, TOKENS, asks=True, clock=clock, timings=Timings(note_used=0.001))


@pytest.fixture
def opened(database: Database, clock: Clock) -> Callers:
    return Callers(database, TOKENS, asks=False, clock=clock)


async def refused(callers: Callers, request: Request, scope: Scope = READ) -> ErrorCode:
    with pytest.raises(OrchestraError) as caught:
        await callers.identify(request, scope)
    return caught.value.code


async def test_a_key_of_another_system_is_called_that(callers: Callers) -> None:
    """The error says whether nothing was sent, or something that is no key of this system."""
    details = []
    for header in (None, "sk-of-somebody-else"):
        with pytest.raises(OrchestraError) as caught:
            await callers.identify(call(header), READ)
        details.append(caught.value.detail)
    assert ["neither a key nor a token" in detail for detail in details] == [False, True]
    assert "sk-" not in details[1]


@pytest.mark.parametrize("header", [None, "", "sk-of-somebody-else", "orc_", "a.b.c"])
async def test_who_brings_nothing_is_refused(callers: Callers, header: str | None) -> None:
    """Where credentials are required, missing, foreign and malformed ones get the same 401."""
    assert await refused(callers, call(header)) is ErrorCode.UNAUTHORIZED
    assert await refused(callers, call(header, user="ann")) is ErrorCode.UNAUTHORIZED
    assert await refused(callers, call("YW5uOnBhc3N3b3Jk", scheme="Basic")) is ErrorCode.UNAUTHORIZED


async def test_open_mode_asks_nobody(opened: Callers) -> None:
    """In open mode a caller without our credentials may do everything, under the name that it gives."""
    assert Principal("default", "", EVERYTHING) == await opened.identify(call(), ADMIN)
    for request in (call("sk-123", user="ann"), call("dTpw", user="ann", scheme="Basic"), call("a.b.c", user=" ann ")):
        caller = await opened.identify(request, ADMIN)
        assert (Principal("default", "ann", EVERYTHING), False) == (caller, caller.identified)


async def test_open_mode_believes_no_bad_credentials(opened: Callers, database: Database) -> None:
    """In open mode, too, credentials of ours are checked, and then count."""
    ann = await make_user(database, "ann")
    good = await make_key(database, "read", user=ann)
    forged = Tokens([b"x" * 32]).sign(ann).get_secret_value()
    for bad in ("orc_", good[:-1] + "g", good[:-1], forged, f"{good}, Bearer {good}"):
        assert await refused(opened, call(bad)) is ErrorCode.UNAUTHORIZED

    assert str(ann.resource.id) == (await opened.identify(call(good), READ)).user
    assert await refused(opened, call(good), WRITE) is ErrorCode.FORBIDDEN


@pytest.mark.parametrize(
    ("given", "may"),
    [
        ({"read"}, {READ}),
        ({"write"}, {READ, WRITE}),
        ({"read", "write"}, {READ, WRITE}),
        ({"write", "priority"}, {READ, WRITE, Scope.PRIORITY}),
        ({"admin"}, {*EVERYTHING}),
    ],
)
async def test_scopes_of_a_programs_key(callers: Callers, database: Database, given: set[str], may: set[Scope]) -> None:
    """A program's key may do what its scopes allow and imply; what it creates belongs to its name."""
    text = await make_key(database, *given, name="nightly", tenant="acme")

    caller = await callers.identify(call(text), READ)
    assert Principal("acme", "key:nightly", frozenset(may)) == caller
    for scope in EVERYTHING - may:
        assert await refused(callers, call(text), scope) is ErrorCode.FORBIDDEN
    assert caller == await callers.identify(call(text, scheme="bearer"), READ)


async def test_a_users_key_may_be_given_priority(callers: Callers, database: Database) -> None:
    """The scope `priority` is not part of a role: an admin grants it to a key."""
    text = await make_key(database, "write", "priority", user=await make_user(database, "ann"))

    assert {READ, WRITE, Scope.PRIORITY} == (await callers.identify(call(text), WRITE)).scopes


async def test_a_users_key_never_has_more_than_he(callers: Callers, database: Database, clock: Clock) -> None:
    """A user's key is limited to the user's current role: after a demotion it is no longer an admin's."""
    ann = await make_user(database, "ann", "admin")
    id = ann.resource.id
    text = await make_key(database, "admin", user=ann)
    assert Principal("default", str(id), EVERYTHING, user_id=id) == await callers.identify(call(text), ADMIN)

    await users.change(database, "default", id, role="user")
    clock.now += 20
    assert await refused(callers, call(text), ADMIN) is ErrorCode.FORBIDDEN
    assert frozenset({READ, WRITE}) == (await callers.identify(call(text), WRITE)).scopes


async def test_who_signed_in(callers: Callers, database: Database, clock: Clock) -> None:
    """A token acts for its user within their current role, until the user is deleted."""
    ann = await make_user(database, "ann", tenant="acme")
    token = TOKENS.sign(ann).get_secret_value()
    id, both = ann.resource.id, frozenset({READ, WRITE})
    expected = Principal("acme", str(id), both, session=Session(id, ann.password_set_at), user_id=id)
    assert expected == await callers.identify(call(token), WRITE)
    assert await refused(callers, call(token), ADMIN) is ErrorCode.FORBIDDEN

    await users.change(database, "acme", id, role="admin")
    clock.now += 20
    assert EVERYTHING == (await callers.identify(call(token), ADMIN)).scopes
    await users.delete(database, "acme", id)
    clock.now += 20
    assert await refused(callers, call(token)) is ErrorCode.UNAUTHORIZED


async def test_a_new_password_ends_sessions(callers: Callers, database: Database, clock: Clock) -> None:
    """Old tokens end within the cache's time; a new one works at once, even where the old password was cached."""
    ann = await make_user(database, "ann")
    old = TOKENS.sign(ann).get_secret_value()
    await callers.identify(call(old), READ)
    await users.change(database, "default", ann.resource.id, password_hash="new")
    found = await users.by_id(database, ann.resource.id)
    assert found is not None

    assert (await callers.identify(call(TOKENS.sign(found).get_secret_value()), READ)).session
    assert await refused(callers, call(old)) is ErrorCode.UNAUTHORIZED


async def test_a_revoked_key_is_dead_within_the_caches_time(
    callers: Callers, opened: Callers, database: Database, clock: Clock
) -> None:
    """A revoked key ends at once where it was revoked, and after twenty seconds elsewhere."""
    text = await make_key(database, "read")
    for each in (callers, opened):
        await each.identify(call(text), READ)
    await keys.revoke(database, "default", None, key_id(text))
    opened.forget_key(key_id(text))

    assert await refused(opened, call(text)) is ErrorCode.UNAUTHORIZED
    clock.now += 20
    assert await refused(callers, call(text)) is ErrorCode.UNAUTHORIZED


def page(who: Session | str, tokens: Tokens = TOKENS) -> Request:
    """A read by a page with this session."""
    now = datetime.now(UTC)
    cookie = f"orchestra={tokens.sign_session(WebSession(who, now, now)).get_secret_value()}"
    return Request({"type": "http", "method": "GET", "headers": [(b"cookie", cookie.encode())]})


async def test_sessions_end_within_the_caches_time(
    callers: Callers, opened: Callers, database: Database, clock: Clock
) -> None:
    """After twenty seconds no gateway takes the session of a revoked key or of an old password; open calls end too."""
    ann, text = await make_user(database, "ann"), await make_key(database, "read")
    pages = [page(key_id(text)), page(Session(ann.resource.id, ann.password_set_at))]
    before = [[await each.identify(request, READ) for request in pages] for each in (callers, opened)]
    assert before[0] == before[1]
    standing = [each.standing(request, READ, who) for each, calls in zip((callers, opened), before, strict=True)
                for request, who in zip(pages, calls, strict=True)]  # fmt: skip
    for each in standing:
        each.due = 0
    await keys.revoke(database, "default", None, key_id(text))
    await users.change(database, "default", ann.resource.id, password_hash="new")
    clock.now += 20

    for request in pages:
        assert await refused(callers, request) is ErrorCode.UNAUTHORIZED
        assert not (await opened.identify(request, READ)).identified
    for each in standing:
        with pytest.raises(OrchestraError):
            await each.check()


async def test_sessions_of_two_secrets(database: Database) -> None:
    """Every gateway takes a session that another one signed, with the old secret as long as that verifies."""
    id, old = key_id(await make_key(database, "read", tenant="acme")), Tokens([b"o" * 32])
    both = Callers(database, Tokens([b"s" * 32, b"o" * 32]), asks=True)

    for tokens in (TOKENS, old):
        caller = await both.identify(page(id, tokens), READ)
        assert ("acme", id) == (caller.tenant, caller.key_id)
    assert await refused(Callers(database, TOKENS, asks=True), page(id, old)) is ErrorCode.UNAUTHORIZED


async def test_a_revoked_key_is_dead_within_a_minute_while_postgres_goes_away(
    callers: Callers, database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Postgres is away a known key works for 55 seconds; then every caller is refused until it is back."""
    text, revoked = await make_key(database, "read"), await make_key(database, "read")
    for each in (text, revoked):
        await callers.identify(call(each), READ)
    await keys.revoke(database, "default", None, key_id(revoked))
    dead = connect(f"postgres://u:p@127.0.0.1:{free_port()}/x")
    with monkeypatch.context() as patch:
        patch.setattr(callers._keys, "_load", lambda id: keys.find(dead, id))
        clock.now += 54
        await callers.identify(call(text), READ)
        clock.now += 1
        for each in (text, revoked):
            with pytest.raises(DatabaseUnavailableError):
                await callers.identify(call(each), READ)
    await dead.close()

    await callers.identify(call(text), READ)
    assert await refused(callers, call(revoked)) is ErrorCode.UNAUTHORIZED


async def test_expired_keys(callers: Callers, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key works until the moment it expires, even when it is cached."""
    now = datetime.now(UTC)
    assert await refused(callers, call(await make_key(database, "read", expires_at=PAST))) is ErrorCode.UNAUTHORIZED
    text = await make_key(database, "read", expires_at=now + SOON)
    await callers.identify(call(text), READ)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # noqa: ARG003 - as datetime has it
            return now + SOON

    monkeypatch.setattr(module, "datetime", Later)
    assert await refused(callers, call(text)) is ErrorCode.UNAUTHORIZED


async def test_a_deleted_users_key_is_dead(callers: Callers, database: Database) -> None:
    """A deleted user's key ends at once where the user was deleted, and so does the session."""
    ann = await make_user(database, "ann")
    text, token = await make_key(database, "read", user=ann), TOKENS.sign(ann).get_secret_value()
    programs = await make_key(database, "read")
    for each in (text, token, programs):
        await callers.identify(call(each), READ)
    await users.delete(database, "default", ann.resource.id)
    callers.forget_user(ann.resource.id)

    for each in (text, token):
        assert await refused(callers, call(each)) is ErrorCode.UNAUTHORIZED
    await callers.identify(call(programs), READ)


async def test_the_secret_must_fit_the_id(callers: Callers, database: Database) -> None:
    """A key works only with its own secret, and an unknown id with none."""
    first, second = await make_key(database, "read"), await make_key(database, "read")
    mixed = f"orc_{key_id(first)}_{second.rpartition('_')[2]}"
    unknown = f"orc_{'a' * 12}_{second.rpartition('_')[2]}"

    assert await refused(callers, call(mixed)) is ErrorCode.UNAUTHORIZED
    assert await refused(callers, call(unknown)) is ErrorCode.UNAUTHORIZED


async def test_x_user_id_with_credentials(callers: Callers, database: Database) -> None:
    """X-User-ID must be the caller, by id or name; only an admin may name another user, who then owns the result."""
    ann, root = await make_user(database, "Änn"), await make_user(database, "root", "admin")
    for text in (await make_key(database, "read", user=ann), TOKENS.sign(ann).get_secret_value()):
        plain = await callers.identify(call(text), READ)
        for name in ("Änn", str(ann.resource.id), str(ann.resource.id).upper(), " ", ""):
            assert plain == await callers.identify(call(text, user=name), READ)
        for name in ("root", str(root.resource.id), "ann", "key:x"):
            assert await refused(callers, call(text, user=name)) is ErrorCode.FORBIDDEN

    token = TOKENS.sign(root).get_secret_value()
    own = await callers.identify(call(token), ADMIN)
    named = await callers.identify(call(token, user="Änn"), ADMIN)
    assert ("Änn", own.user_id, True, None) == (named.user, named.user_id, named.session is not None, named.only)
    assert own == await callers.identify(call(token, user="root"), ADMIN)
    program = await make_key(database, "write", name="nightly")
    assert "key:nightly" == (await callers.identify(call(program, user="key:nightly"), READ)).user
    assert await refused(callers, call(program, user="nightly")) is ErrorCode.FORBIDDEN


@pytest.mark.parametrize("name", ["x" * 201, "a\x01b", "a\x7fb", "a\x85b", b"\xff", "a\tb"])
async def test_names_that_are_none(opened: Callers, name: str | bytes) -> None:
    """A name that is too long, has control characters or is not UTF-8 is refused."""
    assert await refused(opened, call(user=name)) is ErrorCode.INVALID_REQUEST


async def test_one_name(opened: Callers) -> None:
    """Two X-User-ID headers are refused; a name of 200 characters of any script is accepted."""
    twice = Request({"type": "http", "headers": [(b"x-user-id", b"a"), (b"x-user-id", b"b")]})

    assert await refused(opened, twice) is ErrorCode.INVALID_REQUEST
    assert "ж" * 200 == (await opened.identify(call(user="ж" * 200), READ)).user


async def test_last_use_is_kept(callers: Callers, database: Database) -> None:
    """Last use is stored in the background, in one statement for all keys, and only for valid keys."""
    used, other = await make_key(database, "read"), await make_key(database, "read")
    for _ in range(3):
        await callers.identify(call(used), READ)
    await refused(callers, call(other[:-1] + ("0" if other[-1] != "0" else "1")))

    async def moment(text: str) -> datetime | None:
        found = await keys.find(database, key_id(text))
        return found and found.resource.last_used_at

    async with running(callers.run()):
        assert await eventually(lambda: moment(used))
    assert await moment(other) is None


async def test_last_use_is_not_lost(callers: Callers, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Postgres is away last use is remembered, and an unexpected error does not end the task."""
    text = await make_key(database, "read")
    await callers.identify(call(text), READ)
    noted = Calls(away(), ZeroDivisionError(), None)
    monkeypatch.setattr(keys, "note_used", noted)

    async with running(callers.run()):
        await eventually(lambda: len(noted.calls) == 2)
    assert [key_id(text)] == list(noted.calls[0][0]) == list(noted.calls[1][0])


async def test_nothing_secret_is_logged_or_told(callers: Callers, database: Database) -> None:
    """No key or token, valid or not, is in a log line or an error."""
    ann = await make_user(database, "ann")
    text, token = await make_key(database, "read", user=ann), TOKENS.sign(ann).get_secret_value()
    said = []
    with capture_logs() as logs:
        for each in (text, token, text[:-4] + "aaaa", token + "x", "orc_canary"):
            for scope in (READ, ADMIN):
                try:
                    await callers.identify(call(each, user="canary"), scope)
                except OrchestraError as error:
                    said.append(f"{error!r} {error.detail}")

    assert len(said) == 10
    for needle in (text.rpartition("_")[2][:-4], token.rpartition(".")[2], "canary"):
        assert needle not in repr(logs)
        assert needle not in repr(said)
