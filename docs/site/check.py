"""What a built site must not have: links to nowhere, and anything from another address."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes that make a browser load something.
_LOADS = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}


class _Page(HTMLParser):
    """The ids of a page and what it refers to: tag, attribute, address."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.refers: list[tuple[str, str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the ids and addresses of an element."""
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif name in {"href", "src"} and value:
                self.refers.append((tag, name, value))


def problems(folder: Path) -> list[str]:
    """Each link, script, style and image of a page that leads to no file or place, or away from the site."""
    pages = {path: _Page(path.read_text("utf-8")) for path in folder.rglob("*.html")}
    return [f"{path.relative_to(folder)}: {what}" for path in sorted(pages) for what in _wrong(path, pages)]


def _wrong(path: Path, pages: dict[Path, _Page]) -> Iterator[str]:
    for tag, name, address in pages[path].refers:
        at = urlsplit(address)
        if at.scheme or at.netloc:
            if (tag, name) in _LOADS and at.scheme != "data":
                yield f"loads {address}"
            continue
        file = (path.parent / unquote(at.path)).resolve() if at.path else path
        if not file.is_file():
            yield f"leads to {address}, which is not there"
        elif at.fragment and file in pages and unquote(at.fragment) not in pages[file].ids:
            yield f"leads to {address}, which has no such place"
