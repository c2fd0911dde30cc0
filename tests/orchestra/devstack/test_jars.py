"""Kafka's jars are those of the lock."""

from importlib.resources import files
from pathlib import Path

import pytest

from orchestra.devstack.errors import PartFailedError
from orchestra.devstack.jars import ENDPOINT, fetch_jars, lock_file
from orchestra.devstack.progress import StartProgress


@pytest.fixture(scope="module")
def jars() -> list[Path]:
    return fetch_jars(lambda _: None)


def test_the_lock_is_of_the_versions_we_name() -> None:
    """The lock holds what the endpoint asks for, each jar with its sha256, and names no host."""
    lock = lock_file()
    locked = {f"{jar.groupId}:{jar.artifactId}:{jar.version}" for jar in lock.dependencies}

    assert set(ENDPOINT.split("+")) <= locked
    assert all(jar.sha256 for jar in lock.dependencies)
    assert "://" not in files("orchestra.devstack").joinpath("kafka.lock.toml").read_text()


def test_a_damaged_jar_is_fetched_again(tmp_path: Path, jars: list[Path]) -> None:
    """A jar that a broken download left behind is replaced, and nothing else is downloaded."""
    cache = _copy(jars, tmp_path)
    damaged = next(cache.rglob("slf4j-simple-*.jar"))
    damaged.write_bytes(b"half a jar")
    heard: list[StartProgress] = []
    fetched = fetch_jars(heard.append, tmp_path)

    assert damaged in fetched
    assert damaged.stat().st_size > 10_000
    assert [(progress.done, progress.total) for progress in heard] == [(1, 1)]


def test_an_unreachable_registry_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network and without a cache the error says that the download failed."""
    monkeypatch.setattr("orchestra.devstack.jars.MAVEN_CENTRAL_URL", "http://127.0.0.1:9")
    with pytest.raises(PartFailedError, match="kafka could not be downloaded"):
        fetch_jars(lambda _: None, tmp_path)


def _copy(jars: list[Path], target: Path) -> Path:
    """A cache of the same files, by links: what is replaced there stays as it is here."""
    source = next(parent for parent in jars[0].parents if parent.name == "maven")
    cache = target / "maven"
    for jar in jars:
        place = cache / jar.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(jar.read_bytes())
    return cache
