"""What is imported is declared, and what is installed is pinned by its hash."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.support.tree import PACKAGES, ROOT

LOCKS = sorted(
    str(path.relative_to(ROOT))
    for where in ("*", "release/*", "docs/*/*", "tests/*/*")
    for path in ROOT.glob(f"{where}.lock")
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(package: str) -> set[str]:
    """Top-level names that the package's files import, the standard library's and our own left out."""
    names = {name.split(".")[0] for path in (ROOT / package).rglob("*.py") for name in _names(path)}
    return names - set(sys.stdlib_module_names) - set(PACKAGES)


def _names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield str(node.module)


def declared(*extras: str) -> set[str]:
    """Distributions that the extras name, following those that name extras of our own."""
    names: set[str] = set()
    for extra in extras:
        for requirement in PROJECT["optional-dependencies"][extra]:
            name, inner = re.findall(r"^([\w.-]+)(?:\[([\w,-]+)\])?", requirement)[0]
            names |= declared(*inner.split(",")) if name == PROJECT["name"] else {canonical(name)}
    return names | {canonical(re.split(r"[<>=]", each)[0]) for each in PROJECT["dependencies"]}


@pytest.mark.parametrize(
    ("package", "extras"),
    [
        ("gateway", ["gateway"]),
        ("workers", ["workers"]),
        ("llm_service", ["llm"]),
        ("orchestra", ["gateway", "workers", "embedded"]),
        ("migrations", []),
    ],
)
def test_imports_are_declared(package: str, extras: list[str]) -> None:
    """Each package imports only what its own extra names; what comes along with something else does not count."""
    distributions = packages_distributions()
    needed = {name: {canonical(each) for each in distributions.get(name, [name])} for name in imported(package)}

    assert {name for name, any_of in needed.items() if not any_of & declared(*extras)} == set()


def test_the_contracts_need_pydantic_only() -> None:
    """A direct producer installs pydantic and has all that schemas/ imports: it, and what its own pages import."""
    assert imported("schemas") == {"pydantic", "pydantic_core", "typing_extensions"}


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_are_exact(lock: str) -> None:
    """Each line of a lock is one exact version with hashes, and nothing else: no host, no option, no path."""
    text = (ROOT / lock).read_text("utf-8").replace(" \\\n", "")
    exact = re.compile(r"[a-z0-9-]+==[^\s;/]+( ; [^/]+?)?(    --hash=sha256:[0-9a-f]{64})+")

    assert [line for line in text.splitlines() if not exact.fullmatch(line)] == []


@pytest.mark.parametrize("part", ["requirements-llm.lock", "requirements-pipeline.lock", "requirements-runtime.lock"])
def test_a_smaller_lock_is_a_part_of_the_whole(part: str) -> None:
    """Images and `make up` install the versions that the tests ran with."""
    assert pins(part) <= pins("requirements.lock")


def test_what_runs_needs_nothing_that_tests() -> None:
    """`make up` installs every extra that the system runs with, and none of the tools that test, check or draw it."""
    names = {pin.partition("==")[0] for pin in pins("requirements-runtime.lock")}

    assert {canonical(name) for name in declared("all")} <= names
    assert names & (declared("dev") - declared("all")) == set()


def pins(lock: str) -> set[str]:
    return {word for word in (ROOT / lock).read_text("utf-8").split() if "==" in word and not word.startswith("'")}
