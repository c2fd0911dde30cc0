"""`orchestra status` against a supervisor and a gateway that follow scripts."""

from pathlib import Path
from typing import Any

import pytest

from orchestra.devstack.control import ControlServer
from orchestra.devstack.folder import DataFolder
from tests.support.operating import QUEUE
from tests.support.scripted_gateway import ScriptedGateway


@pytest.mark.parametrize(
    ("pids", "queue", "said"),
    [
        ([], {**QUEUE, "unread": 3}, "3 accepted, not read yet; start a worker: `orchestra scale workers 1`\n"),
        ([7], {**QUEUE, "unread": 1200}, "1,200 accepted, not read yet\n"),
        ([7], QUEUE, ""),
        ([7], {**QUEUE, "unread": None}, ""),
        ([7], "unauthorized", ""),
    ],
    ids=["no-worker", "behind", "all-read", "unknown", "refused"],
)
async def test_what_no_worker_has_read_is_said(
    pids: list[int], queue: Any, said: str, script: ScriptedGateway, tmp_path: Path
) -> None:
    """Below the parts it says what is accepted and not read, and what helps if no worker runs."""
    script.answers["GET /v1/queue"] = queue
    state = {"state": "ready", "gateway": {"state": "ready", "url": script.url}, "workers": {"pids": pids}}

    async def handle(_: dict[str, Any]) -> dict[str, Any]:
        return {"status": state, "parts": [{"name": "gateway-1", "state": "ready", "pid": 1, "address": script.url}]}

    async with ControlServer(handle).listening(DataFolder.at(tmp_path).socket):
        done = await script.orchestra("status", "--data", str(tmp_path))

    lines = done.output.splitlines(keepends=True)
    assert (0, said) == (done.status, "".join(line for line in lines if "accepted" in line))
