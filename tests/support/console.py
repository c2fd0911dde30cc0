"""Commands in a page: those of its ```console blocks, run one after another in one shell, and what they print."""

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.tree import ROOT

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ (.*(?:\n> .*)*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """A command and what the page says that it prints; ``…`` there matches anything."""

    page: str
    text: str
    shown: str

    def prints(self, output: str) -> bool:
        """Whether this output is what the page shows."""
        pattern = ".*?".join(map(re.escape, self.shown.strip().split("…")))
        return re.fullmatch(pattern, output.replace("\r", "").strip(), re.DOTALL) is not None


@dataclass(frozen=True)
class Run:
    """What came of a command; ``status`` None: the shell never got to its end."""

    status: int | None
    output: str
    errors: str


def fences(page: Path) -> list[tuple[str, str]]:
    """Language and text of every fenced block of a page."""
    return _FENCE.findall(page.read_text("utf-8"))


def commands(page: Path) -> list[Command]:
    """The commands of a page, in order."""
    blocks = [text for language, text in fences(page) if language == "console"]
    found = [match for block in blocks for match in _COMMAND.findall(block)]
    name = str(page.relative_to(ROOT))
    return [Command(name, text.replace("\n> ", "\n"), shown) for text, shown in found]


def folder_like_ours(folder: Path) -> Path:
    """An empty folder in which `.venv` and `examples` are found, as a reader has them."""
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


def without_proxies(env: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with ``env``; calls to this machine go straight there."""
    own = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**own, **env}


def run_all(lines: Sequence[Command], folder: Path, env: Mapping[str, str], ports: Mapping[int, int]) -> list[Run]:
    """Run commands in one shell, with these ports in the place of those that the pages name."""
    mark = secrets.token_hex(8)
    script = "".join(
        f"{_with_ports(line.text, ports)}\nstatus=$?; printf '{mark}%s\\n' $status; printf '{mark}\\n' >&2\n"
        for line in lines
    )
    shell = subprocess.run(
        ["bash"], input=script, cwd=folder, env=without_proxies(env), capture_output=True, text=True, check=False
    )
    outputs = re.split(rf"{mark}(\d+)\n", shell.stdout)
    errors = shell.stderr.split(f"{mark}\n")
    runs = [
        Run(int(status), output, error)
        for output, status, error in zip(outputs[::2], outputs[1::2], errors, strict=False)
    ]
    return [*runs, *[Run(None, outputs[-1], errors[-1])] * (len(lines) - len(runs))]


def _with_ports(text: str, ports: Mapping[int, int]) -> str:
    return re.sub(r"\b\d{4,5}\b", lambda found: str(ports.get(int(found[0]), found[0])), text)
