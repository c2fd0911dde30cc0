"""The control socket."""

import errno
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestra.devstack.control import ControlServer, ask
from orchestra.devstack.errors import NotRunningError, PartFailedError, RefusedError
from orchestra.devstack.progress import StartProgress


class Answering:
    """Answers by what is asked."""

    def __init__(self) -> None:
        self.server = ControlServer(self.handle)

    async def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["do"]:
            case "work":
                self.server.report(StartProgress("worker-1", "starting"))
                return {"done": True}
            case "fail":
                raise PartFailedError("worker-1", "ended with exit code 1", "its last words" * 10_000)
            case "break":
                raise OSError(errno.ENOSPC, "No space left on device")
        raise RefusedError(f"not understood: {request}")


def _deep(tmp_path: Path) -> Path:
    folder = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 6)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(params=["short", "deep"])
async def path(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Path]:
    path = (_deep(tmp_path) if request.param == "deep" else tmp_path) / "control.sock"
    async with Answering().server.listening(path):
        yield path


async def test_it_answers_with_progress_and_a_result(path: Path) -> None:
    """The caller receives the progress and then the result, however long the folder's path is."""
    heard: list[StartProgress] = []
    result = await ask(path, {"do": "work"}, heard.append)

    assert result == {"done": True}
    assert heard == [StartProgress("worker-1", "starting")]


async def test_a_failure_comes_with_the_log(path: Path) -> None:
    """A failed step is reported with the last words of the part's log."""
    with pytest.raises(RefusedError, match="exit code 1\nits last words"):
        await ask(path, {"do": "fail"}, lambda _: None)


async def test_a_fault_of_ours_is_told_as_such(path: Path) -> None:
    """An error while a request is carried out is reported to the caller, and not blamed on the request."""
    with pytest.raises(RefusedError, match=r"failed: .*No space left") as caught:
        await ask(path, {"do": "break"}, lambda _: None)

    assert "not understood" not in str(caught.value)


@pytest.mark.parametrize("request_", [{"do": "sing"}, {"do": None}, []])
async def test_nonsense_is_refused(path: Path, request_: Any) -> None:
    """A request that is not understood is refused, and the server goes on."""
    with pytest.raises(RefusedError, match="not understood"):
        await ask(path, request_, lambda _: None)

    assert await ask(path, {"do": "work"}, lambda _: None) == {"done": True}


async def test_only_its_owner_may_use_it(path: Path) -> None:
    """The socket has mode 0600."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_nobody_there_is_told(tmp_path: Path) -> None:
    """Without a supervisor the error says so."""
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "none", tmp_path / "file"):
        with pytest.raises(NotRunningError, match="no stack is running"):
            await ask(folder / "control.sock", {"do": "work"}, lambda _: None)
