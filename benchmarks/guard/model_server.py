"""A model server in a separate thread, so that it is not counted; it sends a piece only on request."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Semaphore, Thread
from typing import ClassVar

PIECE = "A piece of text. "
_PATIENCE_SECONDS = 20.0
_USAGE = {"input_tokens": 90, "output_tokens": 33}


class ModelServer(ThreadingTCPServer):
    """Answers like the LLM service at ``/generate``, and like OpenAI at ``/v1/chat/completions``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.pieces = 0
        self.may_speak = Semaphore(0)

    def answer_with(self, pieces: int) -> None:
        """Answer with this many pieces from now on. The first comes at once, each further one after ``go_on``."""
        self.pieces = pieces
        self.may_speak = Semaphore(1)

    def go_on(self) -> None:
        """Signal that the last piece has arrived and all its effects are done."""
        self.may_speak.release()


class _Handler(StreamRequestHandler):
    disable_nagle_algorithm = True
    server: ModelServer
    _models: ClassVar = {
        "name": "llama3", "aliases": [], "provider": "openai", "context_tokens": 8192, "max_output_tokens": 1024,
    }  # fmt: skip

    def handle(self) -> None:
        while path := self._path():
            if path == "/models":
                body = json.dumps({"data": [self._models], "default": "llama3"}).encode()
                self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            else:
                self._answer(_ndjson if path == "/generate" else _sse)

    def _path(self) -> str:
        """The path of the next request, read to its end; empty if the caller has gone."""
        first, length = self.rfile.readline().decode(), 0
        while line := self.rfile.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        self.rfile.read(length)
        return first.split(" ")[1] if first else ""

    def _answer(self, wire: "_Wire") -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % wire.kind)
        for _ in range(self.server.pieces):
            self._chunk(wire.piece)
        self._chunk(wire.end)
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, text: bytes) -> None:
        assert self.server.may_speak.acquire(timeout=_PATIENCE_SECONDS), "the last piece was not read"
        self.wfile.write(b"%x\r\n%b\r\n" % (len(text), text))


class _Wire:
    def __init__(self, kind: bytes, piece: bytes, end: bytes) -> None:
        self.kind = kind
        self.piece = piece
        self.end = end


def _event(**fields: object) -> bytes:
    return b"data: %b\n\n" % json.dumps({"id": "1", "object": "chat.completion.chunk", "model": "m", **fields}).encode()


_ndjson = _Wire(
    b"application/x-ndjson",
    json.dumps({"delta": PIECE}).encode() + b"\n",
    json.dumps({"done": True, "usage": _USAGE, "finish_reason": "stop"}).encode() + b"\n",
)
_sse = _Wire(
    b"text/event-stream",
    _event(choices=[{"index": 0, "delta": {"content": PIECE}, "finish_reason": None}]),
    _event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    + _event(choices=[], usage={"prompt_tokens": 90, "completion_tokens": 33, "total_tokens": 123})
    + b"data: [DONE]\n\n",
)


@contextmanager
def model_server() -> Iterator[ModelServer]:
    """The server, on a free port."""
    with ModelServer() as server:
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        serving.start()
        try:
            yield server
        finally:
            server.shutdown()
            serving.join()
