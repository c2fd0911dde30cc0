"""The live stack that the tours call: the whole system as `orchestra up` starts it, with the simulated model."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestra.devstack.ports import HOST, Ports
from tests.doors import model
from tests.doors.environments import CACHE
from tests.support.ports import free_ports
from tests.support.tree import ROOT

_ORCHESTRA = Path(sys.executable).with_name("orchestra")
_PORTS = 12
WAIT_SECONDS = 20
_MODELS = """[[models]]
name = "{name}"
provider = "openai_compatible"
base_url = "{url}"
context_tokens = 100000
max_output_tokens = 1000
"""


@contextmanager
def running(port_base: int | None) -> Iterator[dict[str, str]]:
    """Start a stack, and yield the environment of the tours, which have two gateways; it is deleted after the body.

    ``port_base``: the first of its ports; None: free ones. Raises ``subprocess.CalledProcessError``.
    """
    data = CACHE / "stack"
    if data.exists():
        _orchestra("down", "--wipe", "--data", data)
        shutil.rmtree(data, ignore_errors=True)
    base = port_base or free_ports(_PORTS)
    models = CACHE / "models.toml"
    models.parent.mkdir(parents=True, exist_ok=True)
    with model.serving() as url:
        models.write_text(_MODELS.format(name=model.NAME, url=url), "utf-8")
        env = {"LLM_PROVIDER": "simulated", "LLM_MODEL": "simulated", "MODELS_FILE": str(models)}
        # So that a check can see how a call ends that waits longer.
        env["DOOR_WAIT_SECONDS"] = str(WAIT_SECONDS)
        print(f"starting a stack at port {base}", flush=True)
        try:
            _orchestra("up", "--detach", "--data", data, "--port-base", str(base), "--gateways", "2", **env)
            yield _told(data, Ports.from_base(base))
        finally:
            _orchestra("down", "--wipe", "--data", data)


def _told(data: Path, ports: Ports) -> dict[str, str]:
    first, second = (f"http://{HOST}:{ports.of_gateway(number)[0]}" for number in (1, 2))
    create = ("keys", "create", "--scope", "write", "--data", data)
    return {
        "GATEWAY_URL": first,
        "DOOR_URL": f"{first}/openai/v1",
        "DOOR_URL_2": f"{second}/openai/v1",
        "DOOR_KEY": _orchestra(*create, "tours").strip(),
        "DOOR_OTHER_KEY": _orchestra(*create, "another").strip(),
    }


def _orchestra(*words: str | Path, **env: str) -> str:
    command = [_ORCHESTRA, *words]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout
