import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import orjson
import pytest

from tests.support.llm_server import eventually
from tests.support.llm_upstream import upstream

ROOT = Path(__file__).parents[2]


def _start(**environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "llm_service"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def _process(**environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = _start(PORT=str(port), **environment)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"HOST": "0.0.0.0"}, "LLM_SERVICE_TOKEN is required"),
        ({"PORT": "x"}, "setting PORT: "),
        ({"LLM_MODEL": "nobody"}, "setting LLM_MODEL: No model has this name"),
        ({"MODELS_FILE": "/nowhere.toml"}, "setting MODELS_FILE: cannot be read"),
        ({"LLM_PROVIDER": "oracle"}, "setting LLM_PROVIDER: "),
    ],
)
def test_a_bad_setting_stops_the_start(environment: dict[str, str], complaint: str) -> None:
    """The process ends with code 78 and one line that names the variable."""
    process = _start(**environment)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 78
    assert complaint in said
    assert said.count("\n") == 1


def test_a_provider_without_its_package_stops_the_start(tmp_path: Path) -> None:
    """A provider whose package is missing ends the process with code 78 and one line that says what to install."""
    models = tmp_path / "models.toml"
    models.write_text('[[models]]\nname="c"\nprovider="cohere"\ncontext_tokens=9\nmax_output_tokens=9\n', "utf-8")
    process = _start(MODELS_FILE=str(models))
    _, said = process.communicate(timeout=60)

    assert (process.returncode, said) == (78, "provider cohere needs the packages of any-llm-sdk[cohere]\n")


async def test_the_log_tells_which_request_failed_and_why() -> None:
    """One line for each generation that failed: the request's id, the model, our code and the provider's, no words."""
    async with upstream() as provider:
        with _process(LLM_PROVIDER="openai", OPENAI_BASE_URL=provider.url) as (process, url):
            await eventually(lambda: _answers(url))
            async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
                for model in ("picky", "nothing", "whole"):
                    body = {"model": model, "messages": [{"role": "user", "content": "canary-7d1f"}]}
                    await client.post(f"{url}/generate", json=body, headers={"x-request-id": f"of-{model}"})
                await client.post(f"{url}/generate", content=b"nonsense", headers={"x-request-id": "of-nobody"})
            process.terminate()
            await eventually(lambda: process.poll() is not None)
            assert process.stderr
            said = process.stderr.read()

    lines = [orjson.loads(line) for line in said.splitlines()]
    listening, *rest = lines
    assert (listening["event"], listening["address"]) == ("listening", "127.0.0.1")
    fields = [{name: line.get(name) for name in ("event", "request_id", "outcome", "provider_code")} for line in rest]
    ended, refused = "generation_ended", "generation_refused"
    assert [tuple(each.values()) for each in fields] == [
        (ended, "of-picky", "refused_by_provider", "unsupported_parameter"),
        (ended, "of-nothing", "empty_reply", None),
        (refused, "of-nobody", "not_json", None),
    ]
    assert not any(secret in said for secret in ("canary-7d1f", "secret prompt"))


async def test_sigterm_cuts_what_hangs_without_an_end_mark() -> None:
    """After SIGTERM the process is gone within its drain time, and an open stream does not look whole."""
    with _process(DRAIN_SECONDS="1") as (process, url):
        await eventually(lambda: _answers(url))
        body = {"model": "simulated:hang_after=1", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        async with (
            httpx.AsyncClient(timeout=30, trust_env=False) as client,
            client.stream("POST", f"{url}/generate", json=body) as response,
        ):
            chunks = response.aiter_bytes()
            got = await anext(chunks)
            process.terminate()
            with pytest.raises(httpx.RemoteProtocolError):
                got += b"".join([chunk async for chunk in chunks])
        await eventually(lambda: process.poll() is not None)

    assert got == b'{"delta":"echo: "}\n'


async def test_sigterm_lets_a_running_answer_end() -> None:
    """A generation that ends within the drain time is answered whole."""
    with _process(DRAIN_SECONDS="10") as (process, url):
        await eventually(lambda: _answers(url))
        body = {
            "model": "simulated:tokens=3,gap_ms=300",
            "stream": True,
            "messages": [{"role": "user", "content": "h"}],
        }
        async with (
            httpx.AsyncClient(timeout=30, trust_env=False) as client,
            client.stream("POST", f"{url}/generate", json=body) as response,
        ):
            chunks = response.aiter_bytes()
            await anext(chunks)
            process.terminate()
            rest = b"".join([chunk async for chunk in chunks])
        await eventually(lambda: process.poll() is not None)

    assert rest.split(b"\n")[-2].startswith(b'{"done":true')
