"""What the benchmark of neighbours promises: the whole flood is posted and counted; delays are multiples of quiet."""

from collections import Counter

from aiohttp import web
from aiohttp.test_utils import TestServer

from benchmarks.load import dumped
from benchmarks.neighbours.command import table
from benchmarks.neighbours.flood import Flood
from benchmarks.question import SLOW


async def test_a_flood_is_posted_once_and_counted() -> None:
    """Each call is sent once, to the gateways in turn, with the key; the result counts them by status."""
    seen = Counter[str]()
    told = set()

    async def message(request: web.Request) -> web.Response:
        told.add((await request.json())["messages"][0]["content"])
        seen[request.path] += request.headers["Authorization"] == "Bearer the key"
        return web.Response(status=202 if request.path == "/0" else 429)

    app = web.Application()
    app.router.add_post("/{gateway}", message)
    async with TestServer(app) as server:
        flood = Flood([str(server.make_url(f"/{number}")) for number in range(2)], "the key", "m", 10, 4)
        posted = await Flood.loaded(dumped(flood)).post()

    assert {"/0": 5, "/1": 5} == seen
    assert {"202": 5, "429": 5} == posted["statuses"]
    assert 10 == len(told)
    assert all(each.startswith(SLOW) for each in told)


def test_delays_are_multiples_of_those_in_quiet() -> None:
    """Each setting's 95th percentile is shown next to its ratio to that of the first one, for each neighbour."""
    quiet, busy = ({"samples": 150, "p50": p95 / 2, "p95": p95} for p95 in (20.0, 50.0))
    figures = {
        name: {
            "latency_ms": dict.fromkeys(("same tenant", "other tenant"), each),
            "cores": {"gateway": 0.5},
            "peak_mib": {"gateway": 99.6},
            "seconds": [30.0],
        }
        for name, each in (("quiet", quiet), ("posted", busy))
    }

    row = table(figures).splitlines()[-1]

    assert "| posted | 25/50 ms (2.5 times) | 25/50 ms (2.5 times) | 150 | 30 | 0.50 | 100 |" == row
