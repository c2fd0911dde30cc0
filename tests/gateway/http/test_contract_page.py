"""Promises of gateway/http/contract_page.py: a page that needs no other file."""

import re
from typing import Any

from gateway.http.contract_page import CONTENT_SECURITY_POLICY, render
from schemas import asyncapi

DOCUMENT = asyncapi.document()
PAGE = render(DOCUMENT)


def test_it_needs_no_script_and_nobody_else() -> None:
    """The page has no script and loads nothing; its policy forbids both."""
    assert "default-src 'none'" in CONTENT_SECURITY_POLICY
    assert "script" not in CONTENT_SECURITY_POLICY
    assert re.findall(r"<(?:script|img|iframe|link)\b|\bsrc=|\bon\w+=|@import|url\(|\sstyle=", PAGE) == []


def test_everything_of_the_document_is_on_it() -> None:
    """Each topic, kind of record, header, schema and field is on the page."""
    names = [channel["address"] for channel in DOCUMENT["channels"].values()]
    names += [*DOCUMENT["components"]["messages"], *DOCUMENT["components"]["schemas"]]
    for message in DOCUMENT["components"]["messages"].values():
        names += message["headers"]["properties"]
    for schema in DOCUMENT["components"]["schemas"].values():
        names += schema.get("properties", {})

    assert [name for name in names if f"<code>{name}</code>" not in PAGE] == []


def test_links_lead_to_places_of_the_page() -> None:
    """Each link within the page leads to an anchor that exists exactly once."""
    places = re.findall(r'\bid="([^"]+)"', PAGE)

    assert set(re.findall(r'href="#([^"]+)"', PAGE)) <= set(places)
    assert len(places) == len(set(places))


def test_texts_stay_texts() -> None:
    """HTML in a description is shown as text."""
    hostile: dict[str, Any] = {**DOCUMENT, "info": {**DOCUMENT["info"], "description": "<script>`<b>`</script>"}}

    assert "&lt;script&gt;<code>&lt;b&gt;</code>&lt;/script&gt;" in render(hostile)
