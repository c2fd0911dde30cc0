"""``python -m tests.doors.beside_litellm``: our chat completions beside LiteLLM's proxy, on one machine in one run.

Both are in front of the same fake model. The two are measured in turns, cell by cell. LiteLLM keeps nothing and has no
database; ours writes each request to Kafka and Postgres, and waits for their disks.
"""

import argparse
import asyncio
import logging
import os
import secrets
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from benchmarks.bench import Bench, open_bench
from benchmarks.cells import WARM_UP, Cell, chosen
from benchmarks.figures import Figures, document, middle, write
from benchmarks.measure import Timing, measure
from benchmarks.meters import PARTS, memory_mb
from benchmarks.question import MODEL, Asking
from orchestra.devstack.ports import HOST
from tests.doors.environments import CACHE, python
from tests.support.ports import free_port

_CELLS = ("chat-light", "chat-256x50ms", "chat-stream-64", "chat-stream-512")
_OURS, _LITELLM = "ours", "litellm"
_START_SECONDS = 120.0
_CONFIG = """model_list:
  - model_name: {model}
    litellm_params: {{model: openai/{model}, api_base: "{url}/v1", api_key: none}}
litellm_settings: {{num_retries: 0, request_timeout: 120, telemetry: false, callbacks: []}}
router_settings: {{num_retries: 0, disable_cooldowns: true}}
"""


def main() -> None:
    """Print a line for each measurement, and a table of the medians."""
    parser = argparse.ArgumentParser(prog="python -m tests.doors.beside_litellm", description=__doc__)
    parser.add_argument("--cells", default=",".join(_CELLS), help="comma-separated cells of `make bench`")
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds of measurement per cell (8)")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="rounds; the medians count")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="of LiteLLM's proxy")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    told = parser.parse_args()
    logging.disable(logging.CRITICAL)
    asyncio.run(_run(told, chosen(told.cells.split(","))))


async def _run(told: argparse.Namespace, cells: list[Cell]) -> None:
    timing, rounds = Timing(measured=told.seconds), defaultdict[str, list[Figures]](list)
    async with open_bench() as bench, _litellm(bench, told.processes) as (url, key):
        sides = {_OURS: (None, []), _LITELLM: ([url], [key])}
        for side, (urls, keys) in sides.items():
            warm = Cell("warm-up", "chat", WARM_UP.clients)
            await measure(bench, warm, Timing(measured=3, counted=0), asking=_asking(keys), urls=urls)
            print(f"{side}: warm", flush=True)
        for _ in range(told.repeat):
            for cell in cells:
                for side, (urls, keys) in sides.items():
                    figures = await measure(bench, cell, timing, asking=_asking(keys), urls=urls)
                    figures["cores"] = _cores(figures, side)
                    figures["mb"] = sum(bench.memory_mb().values()) if side == _OURS else _litellm_mb(bench)
                    rounds[f"{cell.name} {side}"].append(figures)
                    print(f"{cell.name} {side}: {_row(figures)}", flush=True)
                    if told.json:
                        write(told.json, document(rounds, workers=1, gateways=1, seconds=told.seconds))
    head = ("cell", "side", "r/s", "+ms p50/p99", "CPU ms a request", "cores", "MB", "others", "amiss")
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name, each in rounds.items():
        cell, side = name.split(" ")
        print(f"| {cell} | {side} | {_row(middle(each))} |")


def _asking(keys: list[str]) -> Asking:
    return Asking(secrets.token_hex(4), keys)


def _cores(figures: Figures, side: str) -> float:
    """Processors that this side kept busy. The fake model and the load are not counted."""
    share = figures["cpu_share"]
    return (os.cpu_count() or 1) * sum(share[group] for group in (PARTS if side == _OURS else (_LITELLM,)))


def _litellm_mb(bench: Bench) -> float:
    return memory_mb({_LITELLM: bench.beside[_LITELLM]})[_LITELLM]


def _row(figures: Figures) -> str:
    wrong = {name: figures[name] for name in ("wrong", "unanswered", "left_open") if figures[name]}
    return " | ".join(
        (
            f"{figures['rps']:,.0f}",
            f"{figures['overhead_p50_ms']:,.1f}/{figures['overhead_p99_ms']:,.1f}",
            f"{1000 * figures['cores'] / max(1, figures['rps']):.2f}",
            f"{figures['cores']:.2f}",
            f"{figures['mb']:.0f}",
            f"{figures['others_cpu']:.2f}",
            f"{wrong or figures.get('errors') or '-'}",
        )
    )


@asynccontextmanager
async def _litellm(bench: Bench, processes: int) -> AsyncIterator[tuple[str, str]]:
    """LiteLLM's proxy in front of the model of a bench: its base URL, and the key that it requires."""
    config, port, key = CACHE / "litellm.yaml", free_port(), f"sk-{secrets.token_hex(24)}"
    litellm = python("requirements-litellm-proxy.lock").with_name("litellm")
    config.write_text(_CONFIG.format(model=MODEL, url=bench.model_url), "utf-8")
    env = {
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": key,
        "PATH": f"{litellm.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    options = {"config": config, "host": HOST, "port": port, "num_workers": processes, "telemetry": "False"}
    command = [litellm, *(word for name, value in options.items() for word in (f"--{name}", value))]
    with (CACHE / "litellm.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *map(str, command), env={**os.environ, **env}, stdout=log, stderr=subprocess.STDOUT, cwd=CACHE
        )
    bench.beside[_LITELLM] = [process.pid]
    try:
        await _ready(f"http://{HOST}:{port}/health/liveliness", process)
        yield f"http://{HOST}:{port}/v1", key
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _ready(url: str, process: asyncio.subprocess.Process) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(_START_SECONDS):
        while process.returncode is None:
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)
    sys.exit(f"LiteLLM did not start: see {CACHE / 'litellm.log'}")


if __name__ == "__main__":
    main()
