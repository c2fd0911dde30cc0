"""Progress on a terminal and elsewhere."""

import io

from orchestra.cli.render import Progressing
from orchestra.cli.terminal import Terminal
from orchestra.devstack.progress import StartProgress


def shown(*heard: StartProgress, terminal: bool = False) -> str:
    output = io.StringIO()
    progressing = Progressing(Terminal(file=output, force_terminal=terminal, width=100))
    for progress in heard:
        progressing.report(progress)
    progressing.close()
    return output.getvalue()


def test_plain_lines_elsewhere() -> None:
    """Without a terminal each thing that happens is one plain line, and nothing is said twice."""
    starting, ready = StartProgress("kafka", "starting"), StartProgress("kafka", "ready", "in 2.0 s")

    assert shown(starting, starting, ready) == "kafka        starting\nkafka        ready in 2.0 s\n"


def test_a_download_is_a_few_lines() -> None:
    """A download of many files is reported by quarters."""
    lines = shown(*(StartProgress("kafka", "downloading", "jars", done, 100) for done in range(1, 101))).splitlines()

    assert [line.split("jars, ")[1] for line in lines] == [
        "1 of 100",
        "25 of 100",
        "50 of 100",
        "75 of 100",
        "100 of 100",
    ]


def test_a_table_on_a_terminal() -> None:
    """On a terminal every part has its row, with its last news."""
    text = shown(StartProgress("kafka", "starting"), StartProgress("kafka", "ready", "in 2.0 s"), terminal=True)

    assert "✓" in text
    assert "ready in 2.0 s" in text
