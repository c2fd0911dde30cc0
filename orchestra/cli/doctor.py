"""``orchestra doctor``: check what a deployment needs, and say how to fix what is wrong."""

import asyncio
import os
from typing import TYPE_CHECKING

import typer
from rich.table import Column, Table
from rich.text import Text

from orchestra.cli.environment import environment_of_stack
from orchestra.cli.options import DEFAULT_DATA, Data
from orchestra.cli.terminal import Terminal
from orchestra.settings import DatabaseSettings, FileSettings, KafkaSettings, load

if TYPE_CHECKING:
    from orchestra.cli.examine import Finding


def doctor(*, data: Data = DEFAULT_DATA) -> None:
    """Check what a deployment needs: settings, addresses, versions, topics, migrations, models, files, clocks.

    Reads the same environment variables as the services. If DATABASE_URL and KAFKA_BOOTSTRAP_SERVERS are not set and
    a stack of `orchestra up` runs on --data, it checks that stack. Exit code 1 if something needs fixing. A
    variable that looks like a misspelt setting is only a warning.
    """
    from orchestra.cli.examine import LlmSettings, examine

    if not {"DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS"} & os.environ.keys():
        os.environ |= environment_of_stack(data)
    findings = asyncio.run(examine(load(KafkaSettings), load(DatabaseSettings), load(LlmSettings), load(FileSettings)))
    Terminal().print(_table(findings))
    if any(finding.fix and not finding.works for finding in findings):
        raise typer.Exit(1)


def _table(findings: list["Finding"]) -> Table:
    table = Table("", Column("check", no_wrap=True), Column("result", overflow="fold"))
    for finding in findings:
        mark = Text("✗", "red") if finding.fix else Text("✓", "green")
        if finding.works:
            mark = Text("!", "yellow")
        fix = Text(f"\n→ {finding.fix}" if finding.fix else "", "yellow")
        table.add_row(mark, finding.check, Text(finding.result) + fix)
    return table
