"""What a document of figures promises: medians that hide no failures, and reading back what was written."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.figures import cpu, document, middle, problems, read, write


def figures(**changed: Any) -> dict[str, Any]:
    usual = {"rps": 100.0, "cpu_s_per_1000": {"gateway": 0.5, "kafka": 0.25}, "others_cpu": 0.0, "wrong": 0,
             "unanswered": 0, "left_open": 0, "errors": {}}  # fmt: skip
    return {**usual, **changed}


def test_medians_are_told() -> None:
    """Each figure is the median of its rounds, nested ones too."""
    rounds = [figures(rps=rps, cpu_s_per_1000={"gateway": rps / 100}) for rps in (90.0, 300.0, 100.0)]

    assert (100.0, {"gateway": 1.0}) == (middle(rounds)["rps"], middle(rounds)["cpu_s_per_1000"])


def test_what_went_wrong_once_is_told() -> None:
    """Errors, wrong and missing answers and noise are those of the worst round."""
    rounds = [figures(), figures(wrong=1, errors={"502": 3}, others_cpu=0.4), figures(unanswered=2)]
    told = middle(rounds)

    assert (1, 2, {"502": 3}, 0.4) == (told["wrong"], told["unanswered"], told["errors"], told["others_cpu"])
    assert problems(told) == "1 wrong, 2 unanswered, 3 502"
    assert problems(figures()) == ""


def test_all_parts_make_the_cost() -> None:
    """The cost of a request is the sum over all parts."""
    assert cpu(figures()) == 0.75


def test_a_document_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A document is read back as it was written, in folders that did not exist."""
    run = document({"light": [figures()]}, workers=2)
    write(tmp_path / "deep" / "run.json", run)

    assert run == read(tmp_path / "deep" / "run.json")
    assert 2 == run["workers"]


@pytest.mark.parametrize("text", ["[]", "{}", '{"version": 2}', "no JSON"])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    """A file that is not a document of figures is an error, not a comparison."""
    (tmp_path / "other.json").write_text(text)

    with pytest.raises(ValueError, match=r"other\.json is not a document"):
        read(tmp_path / "other.json")
