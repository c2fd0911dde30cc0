"""A real PgBouncer, with the settings that the how-to shows."""

import configparser
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from orchestra.devstack.child import Child
from orchestra.devstack.environment import plain_environment
from orchestra.devstack.part import Part
from orchestra.devstack.ports import HOST
from orchestra.devstack.postgres import _account
from tests.support.ports import free_port, listens
from tests.support.stack import moved, open_folder
from tests.support.tree import ROOT

_PAGE = ROOT / "docs/howto/run-parts-yourself.md"
_LACKING = "PgBouncer 1.21 or newer is not on the PATH; Debian 13 has it: apt-get install pgbouncer"


def documented() -> configparser.RawConfigParser:
    """The pgbouncer.ini that the how-to shows."""
    (block,) = re.findall(r"^```ini\n(.+?)^```", _PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    parsed = configparser.RawConfigParser()
    parsed.read_string(block)
    return parsed


class PgBouncer:
    """A running one. ``changes`` to the documented settings: without an entry's ``connect_query``, or other values."""

    def __init__(self, child: Child, folder: Path, database_url: str, port: int) -> None:
        self._child = child
        self._ini = folder / "pgbouncer.ini"
        self._database_url = database_url
        self._port = port

    @property
    def url_for_gateways(self) -> str:
        return self._url("orchestra_gateways")

    @property
    def url_for_workers(self) -> str:
        return self._url("orchestra_workers")

    def configure(self, *, connect_query: bool = True, **changes: str) -> None:
        """Write its settings; one that runs reads them at ``reload``."""
        where = urlsplit(self._database_url)
        ini = documented()
        for name, entry in ini["databases"].items():
            to_server = f"host={where.hostname} port={where.port} dbname={where.path[1:]}"
            query = entry[entry.index("connect_query=") :] if connect_query else ""
            ini["databases"][name] = f"{to_server} {query}"
        own = {
            "listen_addr": HOST,
            "listen_port": str(self._port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(self._ini.with_name("users.txt")),
            "max_client_conn": "500",
            "default_pool_size": "4",
        }
        for name, value in (own | changes).items():
            ini["pgbouncer"][name] = value
        with self._ini.open("w") as file:
            ini.write(file)
        self._ini.chmod(0o644)

    def reload(self) -> None:
        self._child.signal(signal.SIGHUP)

    async def restart(self) -> None:
        """End it as a crash would, with every connection, and start it again."""
        await self._child.kill()
        await self._child.start()

    def _url(self, entry: str) -> str:
        return moved(urlunsplit(urlsplit(self._database_url)._replace(path=f"/{entry}")), self._port)


@asynccontextmanager
async def open_pgbouncer(database_url: str, **changes: str | bool) -> AsyncIterator[PgBouncer]:
    """PgBouncer in front of this database. Skips, with the reason, where no PgBouncer is installed."""
    program, port, where = _program(), free_port(), urlsplit(database_url)
    with open_folder() as folder:
        users = folder / "users.txt"
        users.write_text(f'"{where.username}" "{where.password}"\n')
        users.chmod(0o644)
        part = Part(
            name="pgbouncer",
            command=[program, str(folder / "pgbouncer.ini")],
            env=plain_environment(),
            ready=lambda: listens(port),
            stop_signal=signal.SIGINT,
            account=_account(),
        )
        child = Child(part, folder / "pgbouncer.log")
        opened = PgBouncer(child, folder, database_url, port)
        opened.configure(**changes)  # type: ignore[arg-type]
        try:
            await child.start()
            yield opened
        finally:
            await child.kill()


def _program() -> str:
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None or _version(program) < (1, 21):
        pytest.skip(_LACKING)
    return program


def _version(program: str) -> tuple[int, ...]:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else ()
