"""Check that the translated pages are in step with the English ones.

Above each paragraph, list or table of a translation, a comment `<!-- en: 1a2b3c4d -->` has the hash of the English
text. `python docs/translations.py` names each one whose English has changed, and prints the new hash: translate it
again, then put the new hash into its comment. Headings, code and links must be the same in all languages.
"""

import hashlib
import posixpath
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/tutorial.md")
LANGUAGES = {"en": "English", "ru": "Русский", "zh-CN": "简体中文"}

# The line that leads to the other languages follows the title.
_SWITCH = 1
_MARK = re.compile(r"<!-- en: (.*) -->")
_LINK = re.compile(r"\]\(([^)]+)\)")
_CODE = re.compile(r"`[^`]+`")
_ROW = re.compile(r"^(?:\||- |\d+\. )", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A heading, a fenced block, or a text: a paragraph, list or table. ``mark``: the hash in the comment above it."""

    kind: str
    text: str
    line: int
    mark: str | None = None

    @property
    def hash(self) -> str:
        """What a translation of this text is marked with. Where its lines break makes no difference."""
        return hashlib.sha256(" ".join(self.text.split()).encode()).hexdigest()[:8]


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page, in order."""
    lines = page.splitlines()
    at, mark = 0, None
    while at < len(lines):
        start, first = at, lines[at]
        at += 1
        if not first.strip():
            continue
        if found := _MARK.fullmatch(first):
            mark = found[1]
            continue
        if first.startswith("#"):
            yield Block(f"heading {first.split()[0]}", first, start + 1)
        elif first.startswith("```"):
            while at < len(lines) and lines[at] != "```":
                at += 1
            at += 1
            yield Block("code", "\n".join(lines[start:at]), start + 1)
        else:
            while at < len(lines) and lines[at].strip() and not lines[at].startswith("```"):
                at += 1
            yield Block("text", "\n".join(lines[start:at]), start + 1, mark)
        mark = None


def name_in(language: str, page: str) -> str:
    """The name of a page in a language."""
    return page if language == "en" else page.replace(".md", f".{language}.md")


def switch(language: str, page: str) -> str:
    """The line at the head of a page that leads to its other languages."""
    base = posixpath.basename(page)
    return " · ".join(
        title if other == language else f"[{title}]({name_in(other, base)})" for other, title in LANGUAGES.items()
    )


def problems(page: str, language: str, english: str, translation: str) -> Iterator[str]:
    """What is not in step, as ``file:line: what``. After a difference in structure nothing more is compared."""
    name = name_in(language, page)
    for number, (ours, theirs) in enumerate(zip_longest(blocks(english), blocks(translation))):
        here = f"{name}:{theirs.line if theirs else 'end'}"
        there = f'{page}:{ours.line} "{ours.text.splitlines()[0][:40]}…"' if ours else f"the end of {page}"
        if ours is None or theirs is None or ours.kind != theirs.kind:
            yield f"{here}: here should be what is at {there}"
            return
        if number == _SWITCH:
            if theirs.text != switch(language, page):
                yield f"{here}: this line should be {switch(language, page)}"
        elif ours.kind == "code" and ours.text != theirs.text:
            yield f"{here}: the code is not that of {there}"
        elif ours.kind == "text" and language != "en":
            yield from (f"{here}: {what}" for what in _differences(page, language, ours, theirs, there))


def _differences(page: str, language: str, ours: Block, theirs: Block, there: str) -> Iterator[str]:
    if theirs.mark is None:
        yield f"not marked as a translation of {there}: <!-- en: {ours.hash} -->"
    elif theirs.mark != ours.hash:
        yield f"stale: translate {there} again, then mark this <!-- en: {ours.hash} -->"
    if (links := _links(page, language, ours.text)) != _LINK.findall(theirs.text):
        yield f"the links should be {', '.join(links) or 'none'}"
    if (code := set(_CODE.findall(ours.text))) != set(_CODE.findall(theirs.text)):
        yield f"the code should be {', '.join(sorted(code)) or 'none'}"
    if len(_ROW.findall(ours.text)) != len(_ROW.findall(theirs.text)):
        yield f"not as many rows or items as {there}"


def _links(page: str, language: str, text: str) -> list[str]:
    """The links of a text; one to a page that is translated leads to the translation."""
    folder = posixpath.dirname(page)
    return [
        name_in(language, link) if posixpath.normpath(posixpath.join(folder, link)) in PAGES else link
        for link in _LINK.findall(text)
    ]


def check() -> list[str]:
    """All that is not in step."""
    return [
        problem
        for page in PAGES
        for language in LANGUAGES
        for problem in problems(page, language, _read(page), _read(name_in(language, page)))
    ]


def _read(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


if __name__ == "__main__":
    found = check()
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    sys.exit(bool(found))
