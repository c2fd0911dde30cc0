"""Promises of schemas/publish.py: what is published is what the code says."""

import importlib
import json
import pkgutil
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

import schemas
from schemas import publish


def test_nothing_has_drifted() -> None:
    """The committed schemas are those of the code."""
    assert publish.drifted() == []


def test_drift_is_named(tmp_path: Path) -> None:
    """Missing, edited and left-over files are each named, and writing repairs them."""
    publish.write(tmp_path)
    (tmp_path / "llm.reply.json").unlink()
    (tmp_path / "http.problem.json").write_text("{}")
    (tmp_path / "of-the-past.json").write_text("{}")

    assert publish.drifted(tmp_path) == ["http.problem.json", "llm.reply.json", "of-the-past.json"]

    publish.write(tmp_path)

    assert publish.drifted(tmp_path) == []
    assert not (tmp_path / "of-the-past.json").exists()


def test_check_fails_on_drift(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` ends with 1 and names the file; without drift it ends with 0 and says nothing."""
    assert publish.main(["--check"]) == 0
    assert capsys.readouterr().err == ""

    monkeypatch.setattr(publish, "drifted", lambda: ["llm.reply.json"])

    assert publish.main(["--check"]) == 1
    assert "schemas/published/llm.reply.json" in capsys.readouterr().err


def test_every_model_is_published() -> None:
    """Each public model of the package is published by itself or as a part of another."""
    modules = [importlib.import_module(each.name) for each in pkgutil.walk_packages(schemas.__path__, "schemas.")]
    defined = {
        value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, BaseModel)
        and value.__module__ == module.__name__
        and not name.startswith("_")
        and not value.__pydantic_generic_metadata__["args"]
    }
    parts = {part for _, text in publish.documents() for part in json.loads(text).get("$defs", {})}
    published = {model for model in defined if model in publish.MODELS.values() or model.__name__ in parts}
    bases = {base for model in published for base in model.__mro__}

    assert {model.__name__ for model in defined - bases} <= parts


@pytest.mark.parametrize("name", publish.MODELS)
def test_published_schemas_are_schemas(name: str) -> None:
    """Each published file is a valid schema of the dialect that it names, and says what it is for."""
    document = json.loads((publish.PUBLISHED / f"{name}.json").read_text("utf-8"))

    Draft202012Validator.check_schema(document)
    assert document["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert document["$id"] == f"urn:llm-orchestra:schema:{name}"
    assert document["description"]
