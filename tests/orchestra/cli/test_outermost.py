"""What a person types, and where the output goes, is never answered by a stack trace: every verb of the tree."""

import os
import sys
from pathlib import Path
from subprocess import run
from typing import Any
from uuid import UUID

import pytest

from tests.support.command_line import CLOSED, Call, call, verbs

VERBS = dict(verbs())
LEAVES = {words: verb for words, verb in VERBS.items() if not hasattr(verb, "commands")}
NAMES = [" ".join(words) for words in VERBS]
LONG = "a" * 300
# What may end a call, by docs/reference/commands.md; 70 is a fault of the program itself.
TOLD = {1, 2, 3, 4, 78}
URLS = [
    "",
    " ",
    "x",
    "http://",
    "http://xn--a",
    "http://[",
    "http://[::1",
    "http://[zz]",
    "http://a..b",
    f"http://{'a' * 64}",
    "http://a b",
    "http://a\nb",
    "http://a\x01b",
    "http://\N{ZERO WIDTH SPACE}",
    "http://127.0.0.1:0",
    "http://127.0.0.1:65536",
    "http://127.0.0.1:x",
    "http://127.0.0.1:-1",
    "http://127.0.0.1:9?a=b",
    "http://127.0.0.1:9#a",
    f"http://127.0.0.1:9/{'a' * 70_000}",
    "file:///etc/passwd",
]
# One of each kind: nothing, no scheme, a bracket, a port. Every verb has these, one verb has them all.
SOME_URLS = ["", "x", "http://[", "http://127.0.0.1:65536"]


def least(words: tuple[str, ...], **options: str) -> tuple[str, ...]:
    """The verb with its required arguments, and these options where it has them."""
    arguments = [each for each in VERBS[words].params if each.param_type_name == "argument"]
    required = [_value(each) for each in arguments if each.required or each.nargs == -1]
    given = [f"{each.opts[0]}={options[each.name]}" for each in _options(words) if each.name in options]
    return (*words, *given, *required)


def _options(words: tuple[str, ...]) -> list[Any]:
    return [each for each in VERBS[words].params if each.param_type_name == "option"]


def _value(argument: Any) -> str:
    if argument.name in ("conversation", "conversations", "request", "ids", "worker"):
        return str(UUID(int=1))
    return {"what": "workers", "file": os.devnull}.get(argument.name, "1")


def having(option: str) -> list[str]:
    """The verbs with this option."""
    return [" ".join(words) for words in LEAVES if option in {each.name for each in _options(words)}]


@pytest.mark.parametrize("name", NAMES)
def test_output_that_cannot_be_written_is_one_line(name: str) -> None:
    """On a full disk, and without standard output, one line says so and the exit code is 4."""
    for stdout in ("/dev/full", CLOSED):
        done = call(Call((*name.split(), "--help"), stdout=stdout))

        assert (done.status, done.stderr.count("\n")) == (4, 1), done.stderr
        assert "standard output cannot be written" in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_that_goes_away_ends_it_quietly(name: str) -> None:
    """A broken pipe is not reported as an error: the exit code is that of a program ended by SIGPIPE."""
    done = call(Call((*name.split(), "--help"), broken_pipe=True))

    assert (done.status, done.stderr) == (141, "")


@pytest.mark.parametrize("name", NAMES)
def test_an_encoding_that_cannot_hold_the_text_loses_letters_only(name: str) -> None:
    """Where standard output is ASCII or Latin-1, what it cannot hold is replaced."""
    for encoding in ("ascii", "latin-1"):
        done = call(Call((*name.split(), "--help"), encoding=encoding))

        assert (done.status, done.stderr) == (0, "")
        assert b"Usage: orchestra" in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_nowhere_to_tell_of_an_error_changes_no_exit_code(name: str) -> None:
    """Without a standard error that can be written the exit code is as with one."""
    for stderr in ("/dev/full", CLOSED):
        done = call(Call((*name.split(), "--no-such-option"), stderr=stderr))

        assert (done.status, done.stderr) == (2, "")


@pytest.mark.parametrize("name", having("data"))
def test_a_folder_that_cannot_be_is_told(name: str, tmp_path: Path) -> None:
    """Whatever --data names, the answer is a line on standard error and an exit code of the documented ones."""
    file, loop = tmp_path / "file", tmp_path / "loop"
    file.touch()
    loop.symlink_to(loop)
    for data in (LONG, str(file), str(loop), "/dev/full", "a\x01b", "", f"{file}/below", "/proc/nowhere"):
        done = call(Call(least(tuple(name.split()), data=data), env=nothing() | {"ORCHESTRA_GATEWAY": ""}))

        assert "Traceback" not in done.stderr, (data, done.stderr)
        assert done.stdout or done.stderr
        assert done.status in TOLD | {0} if name == "down" else done.status in TOLD, (data, done)


@pytest.mark.parametrize("name", having("gateway"))
def test_an_address_that_cannot_be_is_wrong_usage(name: str) -> None:
    """What is no address of a gateway is refused with exit code 2, and named."""
    for url in URLS if name == "send" else SOME_URLS:
        done = call(Call(least(tuple(name.split()), gateway=url), env=nothing()))

        assert done.status == 2, (url, done)
        assert "is not a gateway address" in done.stderr, (url, done)


@pytest.mark.parametrize("name", ["models", "doctor", "keys list", "topics", "migrate"])
@pytest.mark.parametrize("wrong", ["http://xn--a", "[", "a..b:1", f"{'a' * 64}:1", "h:99999", "postgres://[", "x:y"])
def test_an_address_in_the_environment_that_cannot_be_is_told(name: str, wrong: str) -> None:
    """The same holds for the addresses that verbs read from the environment."""
    wrongly = dict.fromkeys(("DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "LLM_SERVICE_URL"), wrong)
    done = call(Call(tuple(name.split()), env=nothing() | wrongly))

    assert "Traceback" not in done.stderr, done.stderr
    assert done.status in {1, 2, 78}, done


@pytest.mark.parametrize(
    "name", [" ".join(words) for words in LEAVES if "key" in {each.name for each in _options(words)}]
)
@pytest.mark.parametrize("key", ["a\nb", "ä", " ", "a ", "\x7f"])
def test_a_key_that_no_header_can_hold_is_wrong_usage(name: str, key: str) -> None:
    """A key that cannot be sent is refused before any call is made."""
    done = call(Call(least(tuple(name.split()), key=key), env=nothing()))

    assert (done.status, "printable ASCII" in done.stderr) == (2, True), done


@pytest.mark.parametrize("words", [("send", "-"), ("chat",)])
def test_input_that_cannot_be_read_is_one_line(words: tuple[str, ...]) -> None:
    """Without a standard input one line says so, and nothing is sent."""
    done = call(Call(words, stdin=CLOSED, env=nothing()))

    assert done.status == 1
    assert "standard input cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_a_real_process_replaces_what_it_cannot_encode(encoding: str) -> None:
    """PYTHONIOENCODING is what standard output really speaks: the table of options comes, letters are replaced."""
    done = run(
        [sys.executable, "-P", "-m", "orchestra.cli", "up", "--help"],
        env={**os.environ, "PYTHONIOENCODING": encoding, "TERM": "dumb", "COLUMNS": "200"},
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert b"--port-base" in done.stdout


@pytest.mark.parametrize("verb", ["--version", "up --help"])
def test_a_real_process_ends_without_a_word_of_the_interpreter(verb: str) -> None:
    """A shell that closes or breaks standard output sees our exit code, and no remark of Python's about its own end."""
    program = f"'{sys.executable}' -P -m orchestra.cli {verb}"
    full, closed, broken = (
        run(["bash", "-c", script], capture_output=True, text=True, check=False)
        for script in (f"{program} >/dev/full", f"{program} >&-", f"{program} | true; echo ${{PIPESTATUS[0]}}")
    )

    assert [(4, 1)] * 2 == [(done.returncode, done.stderr.count("\n")) for done in (full, closed)]
    assert "" == broken.stderr
    assert broken.stdout in {"141\n", "0\n"}  # 0 where all was written before the reader went away.


def nothing() -> dict[str, str]:
    """An environment in which no service is running."""
    return {
        "ORCHESTRA_GATEWAY": "http://127.0.0.1:9",
        "LLM_SERVICE_URL": "http://127.0.0.1:9",
        "DATABASE_URL": "",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
    }
