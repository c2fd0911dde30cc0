"""Every command of the README, the tutorial, the how-tos and the runbooks is run, on a stack as a reader starts it."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra.devstack.ports import Ports
from tests.support.console import Command, Run, commands, fences, folder_like_ours, run_all, without_proxies
from tests.support.ports import free_ports
from tests.support.stack import open_folder
from tests.support.tree import ROOT

# The tutorial is the last: it ends with `orchestra down`. Translations have the same commands: docs/translations.py.
PAGES = [
    *sorted((ROOT / "docs/howto").glob("*.md")),
    *sorted((ROOT / "docs/runbooks").glob("*.md")),
    ROOT / "README.md",
    ROOT / "docs/tutorial.md",
]
COMMANDS = [command for page in PAGES for command in commands(page)]
# Ports that a guide chooses for further parts.
FURTHER_PORTS = (8090, 8091)


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[Command, Run]]:
    """The result of each command."""
    first = free_ports(20)
    named, ours = Ports(), Ports.from_base(first)
    ports = {getattr(named, name): getattr(ours, name) for name in vars(named)}
    ports |= {port: first + 15 + place for place, port in enumerate(FURTHER_PORTS)}
    env = {
        "LLM_PROVIDER": "simulated",
        "ORCHESTRA_GATEWAY": f"http://127.0.0.1:{ours.gateway}",
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{ours.kafka}",
    }
    with open_folder() as folder:
        folder_like_ours(folder)
        try:
            _orchestra(folder, env, "up", "--detach", "--port-base", str(first))
            yield {
                command: run
                for page in map(commands, PAGES)
                for command, run in zip(page, run_all(page, folder, env, ports), strict=True)
            }
        finally:
            _orchestra(folder, env, "down", "--wipe")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.page}: {command.text[:60]}")
def test_a_command_does_what_the_page_shows(runs: dict[Command, Run], command: Command) -> None:
    """The command succeeds and prints what the page shows below it."""
    run = runs[command]

    assert run.status == 0, run
    assert command.prints(run.output), f"{run.output}\n{run.errors}"


def test_there_are_no_other_commands() -> None:
    """Each block of the pages is a command that is run, Python, plain text or settings, or a target of the Makefile."""
    # The targets are not run here: `.ci/run` runs `make test`, and `make up` is `orchestra up`, as in test_cli_up.py.
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    blocks = [block for page in PAGES for block in fences(page)]

    assert {language for language, _ in blocks} <= {"console", "ini", "make", "mermaid", "python", "text"}
    assert [
        line
        for language, text in blocks
        if language == "make"
        for line in text.splitlines()
        if line.removeprefix("make ") not in targets
    ] == []


def test_python_on_the_pages_imports_what_there_is() -> None:
    """Every block of Python is valid, and all that it imports exists."""
    for page in PAGES:
        for text in (text for language, text in fences(page) if language == "python"):
            tree = compile(text, str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
            imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
            exec(compile(ast.Module(imports, []), str(page), "exec"), {})


def _orchestra(folder: Path, env: dict[str, str], *words: str) -> None:
    done = subprocess.run(
        [".venv/bin/orchestra", *words],
        cwd=folder,
        env=without_proxies(env),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
