"""The documentation as a site, which `make site` builds: its pages, its links, and what is found in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

from docs.site.check import problems
from docs.site.navigation import Navigation, SiteError, is_translation
from docs.site.stage import Stage
from tests.support.tree import ROOT

FRONT = "# Pages\n\n## Start\n\n- [Tour](tour.md): a walk\n\n## Do\n\n- [One](howto/one.md)\n- [Reasons](reasons)\n"


def tree(root: Path, more: Mapping[str, str] = MappingProxyType({})) -> Path:
    """A repository with a few pages, and ``more`` files."""
    pages = {
        "docs/index.md": FRONT,
        "docs/tour.md": "# T\n",
        "docs/howto/one.md": "# O\n",
        "docs/reasons/1.md": "# 1\n",
    }
    for path, text in {**pages, **more}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, "utf-8")
    return root


def test_every_page_is_reached() -> None:
    """Each page of the repository is in the navigation once, except translations, to which their page leads."""
    navigation = Navigation(ROOT)
    trees = [*navigation.sections.values(), *navigation.below.values()]
    reached = sorted(place for places in trees for place in places)
    made = navigation.below.keys() - set(navigation.pages.values())

    assert sorted({*reached}) == reached
    assert {*reached} - made == {
        place for path, place in navigation.pages.items() if path != "docs/index.md" and not is_translation(path)
    }


@pytest.mark.parametrize(
    ("path", "sections", "below"),
    [
        ("docs/howto/two.md", {"Do": ["howto/one.md", "reasons/index.md", "howto/two.md"]}, {}),
        ("docs/reasons/2.md", {}, {"reasons/index.md": ["reasons/1.md", "reasons/2.md"]}),
        ("docs/tour/more.md", {}, {"tour.md": ["tour/more.md"]}),
        (
            "docs/new/page.md",
            {"Do": ["howto/one.md", "reasons/index.md", "new/index.md"]},
            {"new/index.md": ["new/page.md"]},
        ),
        ("docs/new/index.md", {"Do": ["howto/one.md", "reasons/index.md", "new/index.md"]}, {"new/index.md": []}),
        ("docs/tour.ru.md", {}, {}),
    ],
)
def test_a_new_page_needs_no_registration(
    tmp_path: Path, path: str, sections: dict[str, list[str]], below: dict[str, list[str]]
) -> None:
    """A page in a folder is behind the pages of its folder, or below the page of its folder, made if need be."""
    navigation = Navigation(tree(tmp_path, {path: "# New\n"}))

    assert {"Start": ["tour.md"], "Do": ["howto/one.md", "reasons/index.md"], **sections} == navigation.sections
    assert {"reasons/index.md": ["reasons/1.md"], **below} == navigation.below


def test_a_page_beside_the_front_page_is_listed(tmp_path: Path) -> None:
    """A page in no folder has no natural place, so docs/index.md must list it."""
    with pytest.raises(SiteError, match=r"docs/index\.md does not list docs/new\.md"):
        Navigation(tree(tmp_path, {"docs/new.md": "# New\n"}))


@pytest.mark.parametrize(
    ("link", "leads"),
    [
        ("howto/one.md", "howto/one.md"),
        ("howto/one.md#a-part", "howto/one.md#a-part"),
        ("../README.md", "project/README.md"),
        ("reasons", "reasons/index.md"),
        ("howto", "index.md#do"),
        ("../code/run.py", "source/code/run.py.md"),
        ("../code", "source/code.md"),
        ("../code/data.json", "source/code/data.json"),
        ("#here", "#here"),
        ("https://example.com/x", "https://example.com/x"),
    ],
)
def test_links_lead_to_the_same_on_the_site(tmp_path: Path, link: str, leads: str) -> None:
    """A link to a page, a folder or a file of the repository leads to its page of the site; none in code is touched."""
    root = tree(tmp_path, {"README.md": "# R\n", "code/run.py": "1\n", "code/data.json": "1\n"})
    text = f"[it]({link}) `[it]({link})`\n\n```text\n[it]({link})\n```\n"

    assert text.replace(link, leads, 1) == Stage(root, tmp_path / "out").staged("docs/tour.md", text)


def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    """A link to a file that does not exist fails with both names."""
    with pytest.raises(SiteError, match=r"docs/tour\.md links to docs/gone\.md, which does not exist"):
        Stage(tree(tmp_path), tmp_path / "out").staged("docs/tour.md", "[it](gone.md)")


def test_files_have_pages(tmp_path: Path) -> None:
    """A file that a page links to is shown on a page, and the page of a folder leads to each file in it."""
    files = {"code/a/run.py": "x = 1\n", "code/b.json": "{}", "code/__pycache__/run.pyc": "made by running it"}
    root, out = tree(tmp_path / "in", {"docs/tour.md": "[all](../code)\n", **files}), tmp_path / "out"
    Stage(root, out).write()

    shown = (out / "source/code.md").read_text()
    assert "# `code`\n\n- [`a/run.py`](code/a/run.py.md)\n- [`b.json`](code/b.json)\n" in shown
    assert "run.pyc" not in shown
    assert "python\nx = 1\n" in (out / "source/code/a/run.py.md").read_text()
    assert (out / "source/code/b.json").read_text() == "{}"


def test_diagrams_are_drawn_by_the_browser(tmp_path: Path) -> None:
    """A diagram reaches the page as its text, whatever characters it has."""
    staged = Stage(tree(tmp_path), tmp_path / "out").staged("docs/tour.md", "```mermaid\na <--> b\n```\n")

    assert staged == '<pre class="mermaid">\na &lt;--&gt; b\n</pre>\n'


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('<a href="b.html#there">b</a><a href="#here" id="here">a</a><a href="https://example.com">c</a>', []),
        ('<a href="gone.html">b</a>', ["a.html: leads to gone.html, which is not there"]),
        ('<a href="b.html#gone">b</a>', ["a.html: leads to b.html#gone, which has no such place"]),
        ('<img src="gone.png">', ["a.html: leads to gone.png, which is not there"]),
        ('<script src="https://example.com/x.js"></script>', ["a.html: loads https://example.com/x.js"]),
    ],
    ids=["good", "no file", "no place", "no image", "from elsewhere"],
)
def test_a_built_site_is_checked(tmp_path: Path, body: str, found: Sequence[str]) -> None:
    """A link to nowhere, and anything that a browser would load from another address, is found."""
    (tmp_path / "a.html").write_text(body)
    (tmp_path / "b.html").write_text('<p id="there"></p>')

    assert found == problems(tmp_path)
