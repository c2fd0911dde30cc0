"""``orchestra top``: the overview and the list of requests, live in a terminal."""

import asyncio
import json
import sys
from typing import Annotated, Any

import typer

from orchestra.cli.calls import as_answered, failing
from orchestra.cli.environment import gateway_of
from orchestra.cli.options import DEFAULT_DATA, AsJson, Data, GatewayUrl, Key, fail
from orchestra.cli.terminal import echo, hand_over


def top(
    *,
    once: Annotated[bool, typer.Option("--once", help="Print one frame as text, and end.")] = False,
    as_json: AsJson = False,
    gateway: GatewayUrl = None,
    key: Key = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Watch problems, current figures and the newest requests live, and cancel or retry requests.

    API keys with the scope `operate` see the figures of the tenant, other keys only their own. `?` lists the keyboard
    shortcuts. If the gateway cannot be reached, the screen says so and continues when it can be reached again. If
    standard output is not a terminal, one frame is printed, as with `--once`.
    """
    url = gateway_of(gateway, data)
    if once or as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        with failing():
            asyncio.run(_once(url, key, as_json=as_json))
        return
    from orchestra.cli.top.app import Top

    app = Top(url, key)
    if problem := app.run():
        raise fail(problem)
    raise typer.Exit(app.return_code or 0)


async def _once(url: str, key: str | None, *, as_json: bool) -> None:
    from orchestra.cli.top.findings import findings
    from orchestra.cli.top.lines import now_of, page
    from orchestra.cli.top.seen import Feed
    from orchestra.client import AsyncClient

    async with AsyncClient(url, key or "", retry_seconds=0, reconnect_seconds=0) as client:
        seen = await Feed(client).once()
    if not as_json:
        for line in page(seen, url):
            echo(line)
        return
    parts: dict[str, Any] = {"findings": [each._asdict() for each in findings(seen, now_of(seen))]}
    for name in ("frame", "queue", "workers", "topics", "stats"):
        part = getattr(seen, name)
        parts[name] = None if part is None else as_answered(part)
    parts["requests"] = [as_answered(each) for each in seen.requests]
    hand_over(json.dumps(parts, indent=2))
