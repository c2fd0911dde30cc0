"""The navigation of the site: what docs/index.md lists, in its sections, and all other pages below or beside that."""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

FRONT = "docs/index.md"
# Below it are the pages at the top of the repository: docs/security.md and SECURITY.md may not differ by case alone.
_TOP = "project"
_TRANSLATION = re.compile(r"\.(ru|zh-CN)\.md$")
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_ENTRY = re.compile(r"^- \[([^\]]+)\]\(([^)#]+)\)", re.MULTILINE)


class SiteError(Exception):
    """A page cannot be part of the site; the text names the page and says why."""


class Navigation:
    """Where each page is. Paths are of the repository, places of the site; both are relative, with slashes.

    ``pages``: the place of each page. ``sections``: the places in each section. ``names``: what docs/index.md calls a
    place. ``below``: the places below a page; where the repository has no such page, it is to be made. Raises
    ``SiteError``.
    """

    def __init__(self, root: Path) -> None:
        found = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
        self.pages = {path: _place(path) for path in sorted(each.relative_to(root).as_posix() for each in found)}
        self.names: dict[str, str] = {}
        self.sections = dict(self._listed((root / FRONT).read_text("utf-8")))
        self.below: dict[str, list[str]] = {}
        listed = {place for places in self.sections.values() for place in places}
        for path, place in self.pages.items():
            if path != FRONT and place not in listed and not is_translation(path):
                self._add(path, place, listed)
        for parent in sorted(self.below.keys() - listed):
            [*self.sections.values()][-1].append(parent)

    def of_folder(self, folder: str) -> str:
        """The place of a folder below docs/: a page, or the section with the last page of the folder."""
        page = self._page_of(folder)
        if page in self.below or page in self.pages.values():
            return page
        return f"{self.pages[FRONT]}#{self._beside(page).lower().replace(' ', '-')}"

    def _listed(self, front: str) -> Iterator[tuple[str, list[str]]]:
        _, *pieces = _SECTION.split(front)
        for title, text in zip(pieces[::2], pieces[1::2], strict=True):
            entries = [(name, posixpath.normpath(posixpath.join("docs", link))) for name, link in _ENTRY.findall(text)]
            names = {self.pages.get(path) or self._page_of(path): name for name, path in entries}
            self.names |= names
            yield title, [*names]

    def _add(self, path: str, place: str, listed: set[str]) -> None:
        """Put a page that is not listed below the page of its folder, or behind the pages of its folder."""
        if not posixpath.dirname(place):
            raise SiteError(f"{FRONT} does not list {path}")
        parent = self._page_of(posixpath.dirname(path))
        if parent not in listed and (beside := self._beside(place)):
            self.sections[beside].append(place)
        else:
            self.below.setdefault(parent, []).extend([place] if place != parent else [])

    def _page_of(self, folder: str) -> str:
        """The page of a folder: one of its name beside it, or its own index."""
        return self.pages.get(f"{folder}.md", _place(f"{folder}/index.md"))

    def _beside(self, place: str) -> str:
        """The last section with a page of the same folder, if there is one."""
        folder = posixpath.dirname(place)
        found = [title for title, places in self.sections.items() if folder in map(posixpath.dirname, places)]
        return found[-1] if found else ""


def is_translation(path: str) -> bool:
    """True for a page that its English page leads to."""
    return bool(_TRANSLATION.search(path))


def _place(path: str) -> str:
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{_TOP}/{path}"
