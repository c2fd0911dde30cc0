"""Tables in Markdown."""

from collections.abc import Iterable


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table. Line breaks in a cell become spaces."""
    lines = [" | ".join(" ".join(cell.replace("|", "\\|").split("\n")) for cell in row) for row in [head, *rows]]
    return "\n".join(f"| {line} |" for line in [lines[0], lines[0].count(" | ") * "--- | " + "---", *lines[1:]]) + "\n"
