"""The addresses that are looked at: the pages of the console's own list, with ids of the seed in their paths."""

import os
import re
from pathlib import Path
from typing import Any

URL = os.environ["CONSOLE_URL"]
_PAGES = (Path(os.environ["CONSOLE_FOLDER"]) / "pages.js").read_text("utf-8")
PATHS = re.findall(r'\bpath: "([^"]+)"', _PAGES)
# What replaces the names in a page's path: names of what tests/browser/seed.py returns, each looked at.
SAMPLES: dict[str, list[str]] = {
    "/requests/{id}": ["waiting", "behind", "running", "retried", "completed", "failed"],
    "/dead-letters/{id}": ["letter", "text_letter"],
    "/topics/{topic}/{partition}": ["record"],
    "/conversations/{id}": ["talk"],
}
ADDRESSES = [(path, sample) for path in PATHS for sample in SAMPLES.get(path, [""])]


def name_of(each: str) -> str:
    """A path or a sample in the name of a check or a picture."""
    return re.sub(r"/\{\w+\}", "", each).strip("/").replace("/", "-") or ("overview" if each else "")


def address_of(path: str, sample: str, seen: dict[str, Any]) -> str:
    """The address of a page, with an id of the seed, or with several parts of its path by their names."""
    found = seen.get(sample)
    return re.sub(r"\{(\w+)\}", lambda name: found[name[1]] if isinstance(found, dict) else str(found), path)
