"""What the compose files of a checkout say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.tree import ROOT


class _Loader(yaml.SafeLoader):
    """With the tags by which a file replaces a list of the one below it."""


_LIST = yaml.SafeLoader.construct_sequence
_Loader.add_constructor("!override", _LIST)
_Loader.add_constructor("!reset", _LIST)


def compose_files() -> list[Path]:
    """All of them."""
    return sorted(ROOT.glob("compose*.yaml"))


def services_of(*files: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and settings of each service, as each of these files has it."""
    for file in files:
        yield from yaml.load(file.read_text("utf-8"), _Loader)["services"].items()
