"""Calls as command lines, the way that people and scripts make them."""

import asyncio
import json
import shlex
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What came back. Names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body, read."""
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.text)

    @property
    def code(self) -> str:
        """The code of a problem document."""
        assert self.headers["content-type"] == "application/problem+json"
        return str(json.loads(self.text)["code"])


async def curl(line: str) -> Reply:
    """Run ``curl <line>``, taken apart as a shell does. An assertion fails when there is no answer."""
    run = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--show-error", "--include", "--noproxy", "*", "--max-time", "60", *shlex.split(line),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await run.communicate()
    assert run.returncode == 0, f"curl {line}: {errors.decode()}"
    head, _, body = out.decode().partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    fields = (field.partition(":") for field in rest)
    return Reply(int(first.split()[1]), {name.lower(): value.strip() for name, _, value in fields}, body)
