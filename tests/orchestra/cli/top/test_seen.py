"""What `orchestra top` has seen of a gateway that follows a script."""

from typing import Any

import pytest

from orchestra.cli.top import seen
from orchestra.cli.top.seen import Feed
from orchestra.client import AsyncClient, ClientError
from tests.support.operating import FRAME, Busy


async def test_a_gateway_without_figures_is_not_waited_for(busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no frame arrives on an open stream, as while a table is locked, one frame is an error and no endless wait."""
    monkeypatch.setattr(seen, "_FIRST_SECONDS", 0.1)
    busy.frames.get_nowait()
    async with AsyncClient(busy.script.url, "orc_a_b") as client:
        with pytest.raises(ClientError, match="orchestra doctor"):
            await Feed(client).once()


async def test_rows_of_an_older_filter_are_not_shown(busy: Busy) -> None:
    """Keys act on the rows, so those that were asked for before the filter changed are dropped when they arrive."""
    page = {"data": busy.rows, "next": None, "newest": None}
    async with AsyncClient(busy.script.url, "orc_a_b") as client:
        feed = Feed(client)

        def changed(_: Any) -> Any:
            feed.filter = {"status": "failed"}
            return page

        busy.script.answers["GET /v1/requests"] = changed
        assert () == (await feed.once()).requests

        busy.script.answers["GET /v1/requests"] = page
        busy.show(FRAME)
        assert len(busy.rows) == len((await feed.once()).requests)

    assert [{"limit": "50"}, {"limit": "50", "status": "failed"}] == busy.asked("GET /v1/requests")
