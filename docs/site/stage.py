"""The pages of the repository as sources of the site: links, diagrams and navigation as Sphinx needs them.

The pages themselves contain nothing for Sphinx, so that they read well where the repository is browsed.
"""

import html
import posixpath
import re
import shutil
from pathlib import Path, PurePosixPath

from docs.site.navigation import FRONT, Navigation, SiteError, is_translation
from tests.support.tree import project_files

# Below it are files that pages link to, each as a page of its own.
_FILES = "source"
# Code, in which nothing is a link; or the target of a link or an image.
_LINK = re.compile(
    r"^(`{3,}).*?^\1$|(?<!`)(`+)(?!`).*?(?<!`)\2(?!`)|\]\((?P<target>[^()\s]+)\)", re.MULTILINE | re.DOTALL
)
_DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Names of languages that Pygments knows otherwise.
_FENCE = re.compile(r"^```make$", re.MULTILINE)
_IMAGES = {".jpg", ".png", ".svg"}
_LANGUAGES = {".go": "go", ".html": "html", ".java": "java", ".mjs": "javascript", ".py": "python", ".sh": "bash"}
# The head of a page that is not in the navigation, and of one that is not searched either.
_ORPHAN = "---\norphan: true\n---\n\n"
_UNSEARCHED = "---\norphan: true\nnosearch: true\n---\n\n"


class Stage:
    """Writes the sources of the site below ``out``."""

    def __init__(self, root: Path, out: Path) -> None:
        self._root = root
        self._out = out
        self._navigation = Navigation(root)
        self._files: set[str] = set()

    def write(self) -> None:
        """Replace what is there. Raises ``SiteError``."""
        shutil.rmtree(self._out, ignore_errors=True)
        pages, below = self._navigation.pages, self._navigation.below
        for path, place in pages.items():
            text = self.staged(path, (self._root / path).read_text("utf-8"))
            self._put(place, text + self._tree(below.get(place, []), ":hidden:"))
        for place in below.keys() - set(pages.values()):
            title = posixpath.basename(posixpath.dirname(place)).replace("-", " ").capitalize()
            self._put(place, f"# {title}\n{self._tree(below[place], ':maxdepth: 1')}")
        self._write_files()

    def staged(self, path: str, text: str) -> str:
        """The text of a page as a source of the site, without what is below it. Raises ``SiteError``."""
        text = _LINK.sub(lambda found: self._link(path, found), text)
        text = _DIAGRAM.sub(lambda found: f'<pre class="mermaid">\n{html.escape(found[1])}</pre>', text)
        text = _FENCE.sub("```bash", text)
        if path == FRONT:
            sections = self._navigation.sections.items()
            trees = (self._tree(places, f":caption: {title}", ":hidden:") for title, places in sections)
            return f"---\nhide-toc: true\n---\n\n{text}{''.join(trees)}"
        return _ORPHAN + text if is_translation(path) else text

    def _tree(self, places: list[str], *options: str) -> str:
        names = self._navigation.names
        entries = (f"{names[place]} </{place}>" if place in names else f"/{place}" for place in places)
        lines = "\n".join([*options, "", *entries])
        return f"\n```{{toctree}}\n{lines}\n```\n" if places else ""

    def _link(self, page: str, found: re.Match[str]) -> str:
        target = found["target"]
        if target is None or target.startswith("#") or ":" in target:
            return found[0]
        path, _, anchor = target.partition("#")
        place = self._place_of(page, posixpath.normpath(posixpath.join(posixpath.dirname(page), path)))
        leads = posixpath.relpath(place, posixpath.dirname(self._navigation.pages[page]) or ".")
        return f"]({leads}{'#' if anchor else ''}{anchor})"

    def _place_of(self, page: str, path: str) -> str:
        """Where the site has a page, a folder or a file."""
        if place := self._navigation.pages.get(path):
            return place
        if not (self._root / path).exists():
            raise SiteError(f"{page} links to {path}, which does not exist")
        if path.startswith("docs/") and (self._root / path).is_dir():
            return self._navigation.of_folder(path)
        return self._place_of_file(path)

    def _place_of_file(self, path: str) -> str:
        """Where a file or folder is, from now on. Images and JSON are copied: a browser shows them."""
        self._files.add(path)
        copied = PurePosixPath(path).suffix in {*_IMAGES, ".json"}
        return f"{_FILES}/{path}" if copied else f"{_FILES}/{path}.md"

    def _write_files(self) -> None:
        written: set[str] = set()
        # The page of a folder adds the files in it.
        while left := self._files - written:
            written |= left
            for path in sorted(left):
                self._write_file(path, self._place_of_file(path))

    def _write_file(self, path: str, place: str) -> None:
        file = self._root / path
        if file.is_dir():
            text = "\n".join(self._entries(path, posixpath.dirname(place)))
        elif place == f"{_FILES}/{path}":
            (self._out / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, self._out / place)
            return
        else:
            text = f"``````{_LANGUAGES.get(file.suffix, 'text')}\n{file.read_text('utf-8').rstrip()}\n``````"
        self._put(place, f"{_UNSEARCHED}# `{path}`\n\n{text}\n")

    def _entries(self, folder: str, beside: str) -> list[str]:
        paths = sorted(each.relative_to(self._root).as_posix() for each in project_files(self._root / folder))
        leads = {each: posixpath.relpath(self._place_of_file(each), beside) for each in paths}
        return [f"- [`{posixpath.relpath(each, folder)}`]({lead})" for each, lead in leads.items()]

    def _put(self, place: str, text: str) -> None:
        (self._out / place).parent.mkdir(parents=True, exist_ok=True)
        (self._out / place).write_text(text, "utf-8")
