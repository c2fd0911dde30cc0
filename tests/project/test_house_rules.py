"""Rules that no linter has: what no file may hold, and what every test has."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tree import ROOT, project_files

# Spelt so that this file does not match itself.
FORBIDDEN = re.compile(
    r"\b(py(?:pi|thonhosted)\.(?:org|io)|npm(?:js)\.(?:org|com)|yarn(?:pkg)\.com|crat(?:es)\.io|golan(?:g)\.org"
    r"|repo1?[.]mave(?:n)|mave(?:n)[.]org|mave(?:n)[.]apache[.]org/(?!POM|xsd)|ruby(?:gems)\.org)|/wor(?:k)/|/roo(?:t)/"
)
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def naps(path: Path) -> Iterator[str]:
    """Places where a file sleeps for a time, other than `asyncio.sleep(0)`, which only lets others run."""
    if "sleep(" not in (text := path.read_text("utf-8")):
        return
    for node in ast.walk(ast.parse(text)):
        sleeps = isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep", "sleep"}
        if sleeps and ast.unparse(node) != "asyncio.sleep(0)":
            yield f"{path.relative_to(ROOT)}:{node.lineno}"


def test_no_file_names_a_registry_or_a_machine() -> None:
    """No file names the host of a package registry or a path of a developer's machine."""
    texts = {path.relative_to(ROOT): path.read_bytes().decode("utf-8", "replace") for path in project_files()}

    assert {str(path): match[0] for path, text in texts.items() if (match := FORBIDDEN.search(text))} == {}


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_states_its_promise(path: Path) -> None:
    """Each test has a docstring of one sentence."""
    tests = {each.name: ast.get_docstring(each) or "" for each in functions(path) if each.name.startswith("test_")}

    assert [name for name, promise in tests.items() if not promise.endswith(".") or "\n\n" in promise] == []


def test_tests_wait_for_conditions_not_for_time() -> None:
    """No test sleeps; helpers in tests/support await a condition."""
    assert [nap for path in TESTS for nap in naps(path)] == []


def test_no_protocol_is_read_with_a_text_splitter() -> None:
    """Nothing reads an HTTP answer by `iter_lines`, which ends a line at every line break that Unicode knows."""
    files = [path for path in project_files() if path.suffix == ".py" and "iter_lines" in path.read_text("utf-8")]
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"iter_lines", "aiter_lines"}
    ]

    assert found == []


def test_only_one_module_words_what_pydantic_refuses() -> None:
    """Everything else reads problems by `schemas.invalid`, so that no text begins with the name of an exception."""
    # FastAPI's own list is worded one by one; what a newer release wrote is read, not explained.
    exempt = {"schemas/invalid.py", "gateway/http/problems.py", "schemas/reading.py"}
    packages = ("gateway", "llm_service", "orchestra", "schemas", "workers")
    found = {str(path.relative_to(ROOT)) for name in packages for path in (ROOT / name).rglob("*.py")}

    assert [path for path in sorted(found - exempt) if ".errors(" in (ROOT / path).read_text("utf-8")] == []


def test_tests_are_no_packages() -> None:
    """There is no `__init__.py` under tests, which would hide the package that a folder is named after."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_nothing_imports_a_conftest() -> None:
    """Helpers live in tests/support; a conftest is pytest's own."""
    imports = re.compile(r"^\s*(from|import) \S*conftest", re.MULTILINE)

    assert [path.name for path in TESTS if imports.search(path.read_text("utf-8"))] == []
