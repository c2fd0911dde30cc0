"""`orchestra chat` and `orchestra send` as a person types them, against a gateway that follows a script."""

import asyncio
import os
import pty
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

import pytest

from orchestra.cli.terminal import harmless
from schemas.api.messages import PostMessage
from tests.support.command_line import orchestra
from tests.support.fake_gateway import (
    COMPLETED,
    CONVERSATION_ID,
    PENDING,
    REQUEST_ID,
    UNTIL_CANCELLED,
    Break,
    Refusal,
    delta,
    fake_gateway,
)
from tests.support.ports import free_port

HELLO = PENDING + delta("Hel", 3) + delta("lo", 5) + COMPLETED
HANGING = PENDING + delta("Hel", 3) + UNTIL_CANCELLED + "event: cancelled\ndata: {}\n\n"
_SECONDS = 60


async def start(
    gateway: str, *words: str | bytes, stdin: int = PIPE, stdout: int = PIPE, stderr: int = PIPE, **more: str
) -> Process:
    """The command, on pipes where nothing else is said."""
    env = {**os.environ, "ORCHESTRA_GATEWAY": gateway, "ORCHESTRA_API_KEY": "a key", "PYTHONUNBUFFERED": "1", **more}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "orchestra.cli", *words, env=env, stdin=stdin, stdout=stdout, stderr=stderr
    )


async def run(gateway: str, *words: str | bytes, said: str = "") -> tuple[int | None, str, str]:
    """Exit code, output and errors of the command when this is typed into it."""
    done = await orchestra(*words, said=said.encode(), ORCHESTRA_GATEWAY=gateway, ORCHESTRA_API_KEY="a key")
    return done.status, done.output, done.stderr


async def run_in(locale: str, gateway: str, *words: str, said: bytes = b"") -> tuple[int | None, str, str]:
    """The same of a new interpreter, which reads the locale at its start."""
    process = await start(gateway, *words, LC_ALL=locale)
    async with asyncio.timeout(_SECONDS):
        output, errors = await process.communicate(said)
    return process.returncode, output.decode(), errors.decode()


async def line(stream: asyncio.StreamReader | None, holds: str) -> None:
    """Wait until this has been printed."""
    assert stream
    seen = b""
    async with asyncio.timeout(_SECONDS):
        while holds.encode() not in seen:
            piece = await stream.read(100)
            assert piece, seen
            seen += piece


async def test_a_chat_is_one_conversation() -> None:
    """What is said later goes into the conversation of what was said first, and the chat says how to go on with it."""
    async with fake_gateway([HELLO, Refusal(429, "conversation_full", "Too many"), HELLO]) as gateway:
        status, output, errors = await run(gateway.url, "chat", "--model", "m", said="one\n\ntwo\nthree\n/quit\nfour\n")

    assert (1, "Hello\nHello\n") == (status, output)  # One of three got no reply, and a script is to see that.
    assert "no reply: Too many (conversation_full)" in errors
    assert f"--conversation {CONVERSATION_ID}" in errors
    assert [None, CONVERSATION_ID, CONVERSATION_ID] == [body.get("conversation_id") for body in gateway.bodies]
    assert {"m"} == {body["model"] for body in gateway.bodies}
    assert {"Bearer a key"} == set(gateway.authorizations)


async def test_a_script_sees_that_the_gateway_is_lost() -> None:
    """A gateway that stays away ends a chat that is no person's: exit code 3, and what is said later is not tried."""
    url = f"http://127.0.0.1:{free_port()}"
    gone = "import orchestra.cli.ask as ask; ask.PATIENCE_SECONDS = 0; from orchestra.cli.main import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", gone, "chat", "--gateway", url, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(_SECONDS):
        output, errors = await process.communicate(b"one\ntwo\n")

    assert (3, b"") == (process.returncode, output)
    assert errors.count(b"no reply") == 1


async def test_a_chat_goes_on_with_an_old_conversation() -> None:
    """An old conversation is gone on with; one that is not there is refused before anything is said."""
    async with fake_gateway([HELLO]) as gateway:
        known = await run(gateway.url, "chat", "--conversation", CONVERSATION_ID, said="one\n")
        unknown = await run(gateway.url, "chat", "--conversation", REQUEST_ID, said="one\n")

    assert (0, "Hello\n") == known[:2]
    assert (1, "", "nothing here (not_found)\n") == unknown
    assert [CONVERSATION_ID] == [body["conversation_id"] for body in gateway.bodies]


async def test_an_interrupt_cancels_the_answer() -> None:
    """Ctrl-C cancels the running answer and the chat goes on."""
    async with fake_gateway([HANGING, HELLO]) as gateway:
        process = await start(gateway.url, "chat")
        assert process.stdin
        process.stdin.write(b"one\n")
        await line(process.stdout, "Hel")
        process.send_signal(signal.SIGINT)
        await line(process.stderr, "[cancelled]")
        output, _ = await process.communicate(b"two\n")

    assert (0, b"Hello\n") == (process.returncode, output)
    assert ("POST", f"/v1/requests/{REQUEST_ID}/cancel") in gateway.calls


async def test_a_second_interrupt_ends() -> None:
    """A second Ctrl-C ends the chat, also while the answer goes on."""
    async with fake_gateway([HANGING]) as gateway:
        gateway.stubborn = True
        process = await start(gateway.url, "chat")
        assert process.stdin
        process.stdin.write(b"one\n")
        await line(process.stdout, "Hel")
        process.send_signal(signal.SIGINT)
        await line(process.stderr, "cancelling")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(_SECONDS):
            _, errors = await process.communicate()

    assert process.returncode == 0
    assert CONVERSATION_ID in errors.decode()


async def test_a_terminal_shows_the_reply_while_it_comes() -> None:
    """On a terminal there is a prompt, the first piece is seen before the last was sent, and Ctrl-D ends."""
    ours, theirs = pty.openpty()
    async with fake_gateway([HANGING]) as gateway:
        process = await start(gateway.url, "chat", stdin=theirs, stdout=theirs)
        os.close(theirs)
        await seen(ours, "> ")
        os.write(ours, b"one\n")
        await seen(ours, "Hel")
        gateway.cancelled.set()
        await seen(ours, "> ")
        os.write(ours, b"\x04")
        async with asyncio.timeout(_SECONDS):
            assert await process.wait() == 0
        await process.communicate()
    os.close(ours)


async def seen(terminal: int, holds: str) -> None:
    """Wait until this has been shown on a terminal."""
    shown = b""
    async with asyncio.timeout(_SECONDS):
        while holds.encode() not in shown:
            shown += await asyncio.to_thread(os.read, terminal, 100)


CALLS = (
    PENDING
    + 'event: reasoning.delta\ndata: {"text": "Hm"}\n\n'
    + delta("Hi", 2)
    + 'event: tool_call\ndata: {"index": 0, "call_id": "c", "name": "weather"}\n\n'
    + 'event: tool_call.delta\ndata: {"index": 0, "arguments": "{\\"city\\": 1}"}\n\n'
    + 'event: tool_call\ndata: {"index": 1, "call_id": "d", "name": "time"}\n\n'
    + 'event: refusal.delta\ndata: {"text": "No"}\n\n'
    + COMPLETED
)


async def test_a_chat_shows_tool_calls_and_refusals() -> None:
    """Each tool call is on a line of its own with its arguments, and so are reasoning and a refusal."""
    async with fake_gateway([CALLS]) as gateway:
        status, output, _ = await run(gateway.url, "chat", said="one\n")

    assert (0, 'Hm\nHi\ncall weather {"city": 1}\ncall time \nrefused: No\n') == (status, output)


async def test_send_says_beside_the_reply_what_else_there_is() -> None:
    """Off a terminal tool calls and refusals are on standard error, so that a script gets the text alone."""
    async with fake_gateway([CALLS]) as gateway:
        status, output, errors = await run(gateway.url, "send", "hi")

    assert (0, "Hi\n", '[call weather {"city": 1}]\n[call time]\n[refused: No]\n') == (status, output, errors)


@pytest.mark.parametrize(
    ("name", "data", "part"),
    [
        ("a.PNG", b"\x89", {"type": "image_url", "image_url": {"url": "data:image/png;base64,iQ=="}}),
        ("a.wav", b"\x89", {"type": "input_audio", "input_audio": {"data": "iQ==", "format": "wav"}}),
        ("a.pdf", b"\x89",
         {"type": "file", "file": {"file_data": "data:application/pdf;base64,iQ==", "filename": "a.pdf"}}),
        ("a.toml", "größe = 1\n".encode(), {"type": "text", "text": "größe = 1\n"}),
    ],
)  # fmt: skip
async def test_a_file_goes_with_the_first_message(tmp_path: Path, name: str, data: bytes, part: dict[str, Any]) -> None:
    """A file is a part of the first message, before its text, and of no other message."""
    (tmp_path / name).write_bytes(data)
    async with fake_gateway([HELLO, HELLO]) as gateway:
        status, _, errors = await run(gateway.url, "chat", "--file", str(tmp_path / name), said="one\ntwo\n")

    assert status == 0, errors
    assert [[part, {"type": "text", "text": "one"}], "two"] == [
        body["messages"][0]["content"] for body in gateway.bodies
    ]
    PostMessage.model_validate(gateway.bodies[0])


@pytest.mark.parametrize(("name", "kind"), [("a.png", "image_url"), ("a.pdf", "file"), ("a.txt", "file")])
async def test_a_file_that_is_too_large_for_the_message_is_uploaded(tmp_path: Path, name: str, kind: str) -> None:
    """The message names it by its id; what fits beside it goes with the message itself."""
    data = b"x" * (1024 * 1024 + 1)
    (tmp_path / name).write_bytes(data)
    (tmp_path / "b.txt").write_text("small")
    files = [word for each in (name, "b.txt") for word in ("--file", str(tmp_path / each))]
    async with fake_gateway([HELLO]) as gateway:
        gateway.files = {}
        status, _, errors = await run(gateway.url, "chat", *files, said="one\n")

    assert status == 0, errors
    ((id, kept),) = gateway.files.items()
    assert (data, True) == (kept, f"uploaded as {id}" in errors)
    named = {"type": kind, kind: {"file_id": id}}
    rest = [{"type": "text", "text": text} for text in ("small", "one")]
    assert [[named, *rest]] == [body["messages"][0]["content"] for body in gateway.bodies]
    PostMessage.model_validate(gateway.bodies[0])


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.bin", b"\x89" * (1024 * 1024 + 1), "is not an image"),
        ("a.wav", b"x" * (1024 * 1024 + 1), "too large"),
        ("a.bin", b"\x89", "is not an image"),
        ("a.png", b"x" * (1024 * 1024 + 1), "too large"),
        ("missing.png", None, "No such file"),
    ],
)
async def test_a_file_that_cannot_go_with_a_message(tmp_path: Path, name: str, data: bytes | None, why: str) -> None:
    """A file of another kind, one that is too large and one that is not there are refused before anything is sent."""
    if data is not None:
        (tmp_path / name).write_bytes(data)
    async with fake_gateway([]) as gateway:
        status, _, errors = await run(gateway.url, "chat", "--file", str(tmp_path / name), said="one\n")

    assert (2, [], True) == (status, gateway.bodies, why in " ".join(errors.split()))


async def test_a_message_that_is_too_large_with_its_files(tmp_path: Path) -> None:
    """A message that does not fit with its files is not sent, and the next one may."""
    (tmp_path / "a.txt").write_text("x" * (1024 * 1024 - 300))
    async with fake_gateway([HELLO]) as gateway:
        status, output, errors = await run(
            gateway.url, "chat", "--file", str(tmp_path / "a.txt"), said=f"{'y' * 300}\nz\n"
        )

    assert (1, "Hello\n") == (status, output)
    assert "not sent: the message and its files are too large: at most 1 MiB" in errors
    assert ["z"] == [body["messages"][0]["content"][1]["text"] for body in gateway.bodies]


async def test_send_prints_just_the_reply() -> None:
    """Off a terminal the reply stands alone on standard output, once, however it came; `-` reads what to say."""
    restart = 'id: 2.2\nevent: restart\ndata: {"attempt": 2, "text": "Hi"}\n\n'
    async with fake_gateway([Break(PENDING + delta("Hel", 3)), PENDING + restart + COMPLETED]) as gateway:
        status, output, _ = await run(gateway.url, "send", "-", "--conversation", CONVERSATION_ID, said="größer\n")

    assert (0, "Hi\n") == (status, output)
    assert "größer\n" == gateway.bodies[0]["messages"][0]["content"]
    assert CONVERSATION_ID == gateway.bodies[0]["conversation_id"]


async def test_send_need_not_wait() -> None:
    """With --no-wait the request's id is printed, alone."""
    async with fake_gateway([]) as gateway:
        assert (0, f"{REQUEST_ID}\n", "") == await run(gateway.url, "send", "hi", "--no-wait")


@pytest.mark.parametrize("words", [("send", "hi"), ("send", "hi", "--no-wait")])
async def test_send_says_by_its_exit_code_that_nobody_is_there(words: tuple[str, ...]) -> None:
    """No gateway is exit code 3, with its address."""
    url = f"http://127.0.0.1:{free_port()}"
    status, output, errors = await run(url, *words)

    assert (3, "") == (status, output)
    assert url in errors


async def test_send_says_by_its_exit_code_that_there_is_no_reply() -> None:
    """A request that is refused or fails is exit code 1, with the detail of the error."""
    async with fake_gateway([Refusal(422, "unknown_model", "No model has this name")]) as gateway:
        assert (1, "", "no reply: No model has this name (unknown_model)\n") == await run(gateway.url, "send", "hi")


async def test_an_interrupted_send_names_the_request() -> None:
    """Ctrl-C leaves the request alone, says which it is where that is known, and is exit code 130."""
    async with fake_gateway([Break(HANGING)]) as gateway:
        gateway.stubborn = True
        process = await start(gateway.url, "send", "hi")
        async with asyncio.timeout(_SECONDS):
            while not gateway.calls:
                await asyncio.sleep(0)
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()

    assert process.returncode == 130
    assert f"request {REQUEST_ID} is still open" in errors.decode() or "may have been accepted" in errors.decode()


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize("words", [("send", "-"), ("chat",)])
async def test_input_that_is_no_text_is_refused(words: tuple[str, ...], locale: str) -> None:
    """Bytes that are not UTF-8 are reported as such in any locale; a chat goes on with the next line."""
    async with fake_gateway([HELLO]) as gateway:
        status, output, errors = await run_in(locale, gateway.url, *words, said=b"caf\xe9\nyes\n")

    assert (2, "") == (status, output) if words == ("send", "-") else (1, "Hello\n") == (status, output)
    assert "not UTF-8" in errors
    assert ["yes"] * (words == ("chat",)) == [body["messages"][0]["content"] for body in gateway.bodies]


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
async def test_letters_beyond_ascii_go_through(locale: str) -> None:
    """What is said as an argument reaches the gateway letter by letter, in any locale."""
    async with fake_gateway([HELLO]) as gateway:
        status, _, _ = await run_in(locale, gateway.url, "send", "größer \u2028 \N{GRINNING FACE}")

    assert status == 0
    assert "größer \u2028 \N{GRINNING FACE}" == gateway.bodies[0]["messages"][0]["content"]


@pytest.mark.parametrize(
    "words",
    [
        ("send", b"caf\xe9"),
        ("send", "hi", "--model", b"\xe9"),
        ("send", "hi", "--conversation", b"\xe9"),
        ("send", "hi", "--key", "ä"),
        ("send", "hi", "--key", "a\nb"),
        ("chat", "--conversation", b"\xe9"),
        ("dead-letters", "list", "--topic", b"\xe9"),
        ("keys", "create", b"\xe9"),
    ],
)
async def test_arguments_that_cannot_be_sent_are_refused(words: tuple[str | bytes, ...]) -> None:
    """What is no text, and a key that no header can hold, is wrong usage, told without a stack trace."""
    status, output, errors = await run("http://127.0.0.1:9", *words)

    assert (2, "") == (status, output), errors
    assert "is not UTF-8" in errors or "printable ASCII" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("url", ["http://[", "nonsense", "ftp://x", "http://127.0.0.1:9999999"])
@pytest.mark.parametrize("words", [("send", "hi"), ("chat",)])
async def test_what_is_no_address_is_told(words: tuple[str, ...], url: str) -> None:
    """An address that cannot exist is wrong usage, reported before anything is sent."""
    status, output, errors = await run(url, *words)

    assert (2, "") == (status, output), errors
    assert "is not a gateway address" in errors


def test_a_model_gives_a_terminal_no_orders() -> None:
    """Control characters of a reply do not reach the terminal; line ends and tabs do."""
    assert "a\n\tb [31m c" == harmless("a\n\tb \x1b[31m\x07 c\x9b")
