"""The guarded hot paths, along a request's way."""

from benchmarks.guard import gateway, llm, store, worker
from benchmarks.guard.path import Path

PATHS = {
    "gateway-request": Path("a POST that waits for its reply", gateway.request),
    "gateway-delta": Path("a piece of text, from Kafka to a caller who reads a stream", gateway.delta, 10, 40),
    "gateway-chunk": Path("a piece of text, to a client of a streamed chat completion", gateway.chunk, 10, 40),
    "worker-record": Path("a signed record, read and checked", worker.read),
    "worker-turn": Path("a turn: prompt, call of the LLM service, one piece of text", worker.turn),
    "worker-delta": Path("a piece of text, from the LLM service to a record of its own", worker.delta, 10, 40),
    "worker-reply": Path("a committed reply, to Kafka as an event and as a reply", worker.announce),
    "llm-request": Path("a call of the LLM service, one piece of text", llm.request),
    "llm-delta": Path("a piece of text, from the model to the worker", llm.delta, 10, 40),
    "store-alone": Path("a request alone in its batches: intake, claim, finish, mark", store.alone, database=True),
    "store-further": Path("a further request in the same batches", store.further, 5, 25, database=True),
}
