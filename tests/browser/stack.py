"""The stack whose pages are looked at: the whole system as `orchestra up` starts it, given something to show."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from orchestra.cli.environment import environment_of_stack
from orchestra.devstack.ports import HOST, Ports
from tests.browser.environment import CACHE
from tests.browser.seed import seeded
from tests.support.ports import free_ports
from tests.support.tree import ROOT
from tests.support.waiting import eventually

ORCHESTRA = Path(sys.executable).with_name("orchestra")
_PORTS = 12
DATA = CACHE / "stack"
# Models of the simulated provider under names as operators have them: what each takes, and how it fails.
_MODELS = {
    "llama3": "latency_ms=250,gap_ms=12",
    "qwen3-32b": "latency_ms=600,tokens=120,gap_ms=8",
    "gemma3-12b": "latency_ms=120,gap_ms=6",
    "llama3-70b": "latency_ms=900,tokens=16000,gap_ms=60",
    "mistral-small": "fail=rate_limited,retry_after=40",
    "phi4": "fail=timeout,fail_times=2,gap_ms=10",
    "command-r": "fail=content_filter,fail_after=6,tokens=20",
}
_MORE = {
    "qwen3-32b": 'fallbacks = ["llama3"]\nrequests_per_minute = 600',
    "llama3-70b": "max_concurrency = 8",
}
_ENTRY = """[[models]]
name = "{name}"
provider = "simulated"
upstream = "simulated:{options}"
context_tokens = 131072
max_output_tokens = 16384
price = {{ input = 0.4, output = 1.6 }}
{more}
"""


@contextmanager
def running(port_base: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Start a stack and fill it; yield its gateway's URL and what ``seeded`` returns. It is deleted after the body."""
    if DATA.exists():
        _orchestra("down", "--wipe", "--data", DATA)
        shutil.rmtree(DATA, ignore_errors=True)
    base = port_base or free_ports(_PORTS)
    ports = Ports.from_base(base)
    models = CACHE / "models.toml"
    models.parent.mkdir(parents=True, exist_ok=True)
    entries = [_ENTRY.format(name=name, options=options, more=_MORE.get(name, "")) for name, options in _MODELS.items()]
    models.write_text("\n".join(entries), "utf-8")
    # A worker that is stopped does not wait for the long answers that a test left behind.
    env = {"LLM_PROVIDER": "simulated", "LLM_MODEL": "llama3", "MODELS_FILE": str(models), "DRAIN_SECONDS": "2"}
    print(f"starting a stack at port {base}", flush=True)
    try:
        _orchestra("up", "--detach", "--data", DATA, "--port-base", str(base), "--workers", "2", **env)
        url = f"http://{HOST}:{ports.of_gateway(1)[0]}"
        seen = seeded(url, f"{HOST}:{ports.kafka}")
        with _closed_gateway(*ports.of_gateway(3)) as closed:
            yield url, {**seen, "closed": closed}
    finally:
        _orchestra("down", "--wipe", "--data", DATA)


@contextmanager
def _closed_gateway(port: int, tasks_port: int) -> Iterator[str]:
    """A second gateway of the stack, which requires credentials."""
    env = {**os.environ, **environment_of_stack(DATA), "PORT": str(port), "TASKS_PORT": str(tasks_port)}
    with (CACHE / "closed-gateway.log").open("w") as log:
        command = [sys.executable, "-m", "gateway"]
        gateway = subprocess.Popen(command, cwd=ROOT, env={**env, "OPEN_MODE": "false"}, stdout=log, stderr=log)
    url = f"http://{HOST}:{port}"
    try:
        asyncio.run(eventually(partial(_is_ready, url), 180))
        yield url
    finally:
        gateway.terminate()
        gateway.wait(30)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


def _orchestra(*words: str | Path, **env: str) -> None:
    subprocess.run([ORCHESTRA, *words], cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.DEVNULL, check=True)
