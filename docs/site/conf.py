"""Sphinx's settings for the site."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]

project = "LLM Orchestra"
version = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
language = "en"
extensions = ["myst_parser", "sphinx_copybutton"]
# As GitHub and GitLab make them.
myst_heading_anchors = 6
# A block on a page may be a part of something, or show what is wrong.
suppress_warnings = ["misc.highlighting_failure"]
# Only commands are copied: neither the prompts nor what is printed.
copybutton_prompt_text = r"\$ |> "
copybutton_prompt_is_regexp = True
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

html_theme = "furo"
html_title = f"{project} {version}"
html_logo = html_favicon = "../../gateway/console/icon.svg"
html_static_path = ["static", "../../.cache/site/node/node_modules/@mermaid-js/tiny/dist"]
html_css_files = ["site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_copy_source = False
html_show_copyright = False
# Sphinx would fetch each page that was found, which a browser does not allow a page that is a file: see `_write_texts`.
html_show_search_summary = False
html_search_scorer = str(Path(__file__).with_name("scorer.js"))
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#3350c8", "color-brand-content": "#3350c8"},
    "dark_css_variables": {"color-brand-primary": "#93a7ff", "color-brand-content": "#93a7ff"},
}


def _complete(_app: Any, page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """What screen readers and keyboards need of a page: its language, levels of headings, and blocks that scroll."""
    if found := re.search(r"\.(ru|zh-CN)$", page):
        context["language"] = found[1]
    levels = 'role="heading" aria-level="2"'
    context["furo_navigation_tree"] = context["furo_navigation_tree"].replace('role="heading"', levels)
    scroll = r'<pre(?=>)|<div(?= class="table-wrapper)'
    context["body"] = re.sub(scroll, r'\g<0> tabindex="0"', context.get("body", ""))


def _write_texts(app: Any, error: Exception | None) -> None:
    """The text of each page that is searched, of which the page of results shows a piece."""
    if error is None:
        pages = [page for page in sorted(app.env.found_docs) if "nosearch" not in app.env.metadata[page]]
        texts = {page: " ".join(app.env.get_doctree(page).astext().split()) for page in pages}
        (Path(app.outdir) / "_static/texts.js").write_text(f"const texts = {json.dumps(texts)};\n", "utf-8")


def setup(app: Any) -> None:
    """Called by Sphinx. The theme has filled in what is completed here."""
    app.connect("html-page-context", _complete, priority=900)
    app.connect("build-finished", _write_texts)
