"""``orchestra bulk``: send the messages of a JSON Lines file, many in each call."""

import json
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from orchestra.cli.environment import gateway_of
from orchestra.cli.options import DEFAULT_DATA, Data, GatewayUrl, Key, fail
from orchestra.cli.terminal import hand_over, remark

if TYPE_CHECKING:
    from orchestra.client import ClientError

UNREACHABLE = 3
MAX_MESSAGES = 1000
# A gateway takes bodies of up to 1 MiB.
MAX_BYTES = 1_000_000
_SECONDS = 60.0
# For messages that may be accepted later, after each call.
_PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)


class _Message(NamedTuple):
    line: int
    body: dict[str, Any]
    size: int


# A message to send, or the number of a line that is not one and its error.
_Line = _Message | tuple[int, dict[str, Any]]


def bulk(
    file: Annotated[
        typer.FileBinaryRead,
        typer.Argument(help="JSON Lines: each line is the body of a message, as for `POST /v1/messages`; `-`: stdin."),
    ],
    *,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Send the messages of a file, up to 1,000 in each call, and do not wait for their replies.

    Prints one JSON object per message: its line number in the file, and its request or its error. Messages that were
    refused only for the moment are sent again for about a minute. Progress is on standard error.

    A line without an `idempotency_key` gets one for this run, so that nothing is accepted twice. To run a file again
    safely, give each line a key of its own.

    Exit codes: 0 all accepted; 1 some refused; 2 wrong usage; 3 no gateway could be reached; 130 interrupted.
    """
    run, sent, failed = secrets.token_hex(8), 0, 0
    with closing(Sender(gateway_of(gateway, data, UNREACHABLE), key)) as sender:
        for batch in batches(file, run):
            for line, outcome in sender.send(batch):
                hand_over(json.dumps({"line": line, **outcome}))
                sent, failed = sent + (not outcome["error"]), failed + bool(outcome["error"])
            remark(f"{sent:,} accepted, {failed:,} refused")
    if failed:
        raise typer.Exit(1)


def batches(lines: Iterable[bytes], run: str) -> Iterator[list[_Line]]:
    """The messages in groups that fit into one call; in the place of a line that is not one, its error."""
    batch: list[_Line] = []
    size = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        read = _read(number, line, run)
        more = read.size + 1 if isinstance(read, _Message) else 0
        if batch and (len(batch) == MAX_MESSAGES or size + more > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(read)
        size += more
    if batch:
        yield batch


def _read(number: int, line: bytes, run: str) -> _Line:
    from orchestra.client.options import body_of

    if len(line) > MAX_BYTES:
        return number, _error("too_large", f"the line is longer than {MAX_BYTES:,} bytes")
    try:
        body = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return number, _error("not_json", "the line is not JSON")
    if not isinstance(body, dict):
        return number, _error("invalid_request", "the line is not an object")
    body = {"idempotency_key": f"{run}-{number}", **body}
    try:
        return _Message(number, body, len(body_of(request=body)))
    except ValueError:
        return number, _error("invalid_request", "the line has half a character, or too many levels")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _error(code: str, detail: str) -> dict[str, Any]:
    return {"error": {"code": code, "detail": detail, "retryable": False}}


class Sender:
    """Sends batches. Until a gateway has answered once, one that cannot be reached ends the verb at once.

    ``seconds``: how long a call is repeated that failed for now; ``pauses``: before its messages that may be accepted
    later are sent again.
    """

    def __init__(
        self, gateway: str, key: str | None, pauses: Sequence[float] = _PAUSES, seconds: float = _SECONDS
    ) -> None:
        from orchestra.client import Client

        self._client = Client(gateway, key or "", retry_seconds=seconds, on_retry=self._on_retry)
        self._pauses = pauses
        self._reached = False

    def send(self, batch: Sequence[_Line]) -> Iterator[tuple[int, dict[str, Any]]]:
        """The outcome of each line, in order. Messages that may be accepted later are sent again, in order."""
        done = {each[0]: each[1] for each in batch if not isinstance(each, _Message)}
        left = [each for each in batch if isinstance(each, _Message)]
        for pause in (*self._pauses, None):
            if not left:
                break
            outcomes = self._submit([each.body for each in left])
            done |= {each.line: outcome for each, outcome in zip(left, outcomes, strict=True)}
            left = [each for each in left if _may_be_accepted(done[each.line])]
            if left and pause is not None:
                remark(f"{len(left):,} to send again in {pause:g} s")
                time.sleep(pause)
        yield from sorted(done.items())

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _submit(self, bodies: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """The outcomes of one call. If it fails, exit with the reason."""
        from orchestra.client import ClientError, UnreachableError

        try:
            outcomes = self._client.messages.submit_all(bodies)
        except UnreachableError as error:
            raise fail(str(error), UNREACHABLE) from None
        except ClientError as error:
            raise fail(str(error)) from None
        if len(outcomes) != len(bodies):
            raise fail("the gateway did not answer like a gateway: messages have no outcomes")
        self._reached = True
        return [each.model_dump(mode="json", warnings=False) for each in outcomes]

    def _on_retry(self, error: "ClientError", pause: float) -> None:
        if error.status is None and not self._reached:
            raise error
        self._reached = True
        remark(f"{error}; trying again in {pause:.1f} s")


def _may_be_accepted(outcome: dict[str, Any]) -> bool:
    return bool(outcome["error"]) and bool(outcome["error"]["retryable"])
