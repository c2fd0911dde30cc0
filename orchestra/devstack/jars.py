"""Kafka's jars: exactly those of kafka.lock.toml, downloaded once, checked by SHA-256 at every start.

The lock is the jgo.lock.toml that ``jgo.build(ENDPOINT)`` writes; it names no host.
"""

import fcntl
import os
import ssl
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

import platformdirs
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.env import LockFile
from jgo.maven import Artifact, MavenContext

from orchestra.devstack.errors import PartFailedError
from orchestra.devstack.progress import Report, StartProgress

ENDPOINT = "org.apache.kafka:kafka_2.13:4.2.0+org.apache.kafka:kafka-tools:4.2.0+org.slf4j:slf4j-simple:1.7.36"
_PARALLEL = 8


def lock_file() -> LockFile:
    """The committed lock."""
    with as_file(files("orchestra.devstack") / "kafka.lock.toml") as path:
        return LockFile.load(path)


def fetch_jars(report: Report, cache: Path | None = None, lock: LockFile | None = None) -> list[Path]:
    """Paths of all jars of a lock (default: Kafka's). Those that the user's cache lacks are downloaded.

    Raises ``PartFailedError``.
    """
    lock = lock or lock_file()
    context = MavenContext(
        repo_cache=(cache or platformdirs.user_cache_path("llm-orchestra")) / "maven",
        local_repos=[],
        remote_repos={**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL},
        timeout=60,
    )
    context.repo_cache.mkdir(parents=True, exist_ok=True)
    artifacts = [
        context.project(jar.groupId, jar.artifactId)
        .at_version(jar.version)
        .artifact(classifier=jar.classifier or "", packaging=jar.packaging)
        for jar in lock.dependencies
    ]
    # Two stacks that start together share the cache: the second one waits for the first.
    with (context.repo_cache / "lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if lock.verify_checksums(context.repo_cache):
            _drop_damaged(lock, context.repo_cache, artifacts)
            _download([artifact for artifact in artifacts if not _path(artifact).exists()], report)
            if errors := lock.verify_checksums(context.repo_cache):
                raise PartFailedError("kafka", f"has a jar that differs from its lock: {errors[0]}")
    return [_path(artifact) for artifact in artifacts]


def _drop_damaged(lock: LockFile, cache: Path, artifacts: list[Artifact]) -> None:
    """Delete damaged files, so that they are downloaded again."""
    for jar, artifact in zip(lock.dependencies, artifacts, strict=True):
        if _path(artifact).exists() and LockFile([jar]).verify_checksums(cache):
            _path(artifact).unlink()


def _download(missing: list[Artifact], report: Report) -> None:
    with _trusting_what_the_machine_trusts(), ThreadPoolExecutor(_PARALLEL) as pool:
        futures = [pool.submit(artifact.resolve) for artifact in missing]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                _check(future)
                report(StartProgress("kafka", "downloading", "jars from Maven Central", done, len(missing)))
        finally:
            pool.shutdown(cancel_futures=True)


def _check(download: "Future[Path]") -> None:
    try:
        download.result()
    except Exception as error:
        raise PartFailedError("kafka", f"could not be downloaded: {error}") from error


@contextmanager
def _trusting_what_the_machine_trusts() -> Iterator[None]:
    """Trust the machine's certificates instead of the library's list, which does not know a company proxy's."""
    machine = ssl.get_default_verify_paths().cafile
    if machine is None or {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} & os.environ.keys():
        yield
        return
    os.environ["REQUESTS_CA_BUNDLE"] = machine
    try:
        yield
    finally:
        del os.environ["REQUESTS_CA_BUNDLE"]


def _path(artifact: Artifact) -> Path:
    path: Path | None = artifact.cached_path
    assert path is not None  # The context always has a cache.
    return path
