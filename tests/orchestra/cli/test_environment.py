"""Where a verb finds the gateway that it talks to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestra.devstack.control import ControlServer
from tests.support.command_line import orchestra
from tests.support.fake_gateway import COMPLETED, CONVERSATION_ID, PENDING, delta, fake_gateway
from tests.support.ports import free_port

HELLO = PENDING + delta("Hello", 5) + COMPLETED


@asynccontextmanager
async def stack(data: Path, gateway: str) -> AsyncIterator[None]:
    """A stack on this folder, of which the address of its gateway is known."""

    async def status(_: dict[str, Any]) -> dict[str, Any]:
        return {"status": {"gateway": {"url": gateway}}}

    data.mkdir(exist_ok=True)
    async with ControlServer(status).listening(data / "control.sock"):
        yield


@pytest.mark.parametrize("words", [("send", "-"), ("chat",)])
@pytest.mark.parametrize("there", [(), ("--data", "other")])
async def test_the_stack_of_the_folder_is_found(tmp_path: Path, words: tuple[str, ...], there: tuple[str, ...]) -> None:
    """Without an address `send` and `chat` talk to the stack that runs on the folder, whatever its ports."""
    async with fake_gateway([HELLO]) as gateway, stack(tmp_path / (there or ("", ".orchestra"))[1], gateway.url):
        done = await orchestra(*words, *there, said=b"hi\n", folder=tmp_path)

    assert (0, "Hello\n") == (done.status, done.output), done.stderr
    if words == ("chat",):
        assert f"chat --conversation {CONVERSATION_ID}" + "".join(f" {word}" for word in there) in done.stderr
        assert "--gateway" not in done.stderr


async def test_an_address_goes_before_the_stack(tmp_path: Path) -> None:
    """`--gateway` goes before ORCHESTRA_GATEWAY, and that before the stack on the folder; a chat's hint repeats it."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with fake_gateway([HELLO] * 2) as gateway, stack(tmp_path / ".orchestra", nowhere):
        by_option = await orchestra(
            "chat", "--gateway", gateway.url, ORCHESTRA_GATEWAY=nowhere, said=b"hi\n", folder=tmp_path
        )
        by_environment = await orchestra("send", "-", ORCHESTRA_GATEWAY=gateway.url, said=b"hi\n", folder=tmp_path)

    assert ["Hello\n"] * 2 == [by_option.output, by_environment.output]
    assert f"--gateway {gateway.url}" in by_option.stderr


@pytest.mark.parametrize(("words", "status"), [(("send", "-"), 3), (("chat",), 1), (("dead-letters", "list"), 1)])
async def test_a_folder_that_is_named_must_have_a_stack(tmp_path: Path, words: tuple[str, ...], status: int) -> None:
    """If no stack runs on the named folder, that is reported, and no other gateway is asked instead."""
    named = await orchestra(*words, "--data", "other", said=b"hi\n", folder=tmp_path)

    assert (status, "") == (named.status, named.output)
    assert f"no stack is running on {tmp_path}/other" in named.stderr


async def test_dead_letters_are_those_of_the_stack(tmp_path: Path) -> None:
    """`dead-letters` asks the gateway of the stack on the folder."""
    async with fake_gateway([]) as gateway, stack(tmp_path / ".orchestra", gateway.url):
        done = await orchestra("dead-letters", "list", said=b"hi\n", folder=tmp_path)

    # That one knows no dead letters, but it is asked.
    assert "404 Not Found" in done.stderr
