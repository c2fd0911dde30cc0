"""helm and a real API server: install, upgrade, rollback, uninstall. No pod runs; the migration is ended for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chart.cluster import Cluster, running
from tests.chart.tools import CHART, CI, RELEASE, ci, objects

EVERYTHING = ("--values", ci("everything"))


@pytest.fixture(scope="module")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(running_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster without a release, and without what other tests have seen."""
    running_cluster.ended.clear()
    yield running_cluster
    running_cluster.fails, running_cluster.at_end = False, lambda: None
    running_cluster.helm("uninstall", RELEASE, "--ignore-not-found")


def ran(cluster: Cluster) -> list[str]:
    """The images of the migrations that ran since the last call."""
    found = list(cluster.ended)
    cluster.ended.clear()
    return found


@pytest.mark.parametrize("file", CI, ids=lambda path: path.stem)
def test_the_server_takes_each_object(cluster: Cluster, file: Path) -> None:
    """The API server accepts each object whole: no unknown field, and all that it validates itself."""
    answers = [cluster.create(each, dryRun="All", fieldValidation="Strict") for each in objects(file)]

    assert [answer.text for answer in answers if answer.status_code != 201] == []


@pytest.mark.parametrize("kind", ["ScaledObject", "ServiceMonitor", "Deployment"])
def test_the_server_refuses_what_it_does_not_know(cluster: Cluster, kind: str) -> None:
    """A field that an object does not have is refused, by name: the check before this one can fail."""
    found = next(each for each in objects(ci("everything")) if each["kind"] == kind)
    found["spec"]["strange"] = "x"
    answer = cluster.create(found, dryRun="All", fieldValidation="Strict")

    assert (400, True) == (answer.status_code, 'unknown field "spec.strange"' in answer.json()["message"])


def test_install_upgrade_rollback_uninstall(cluster: Cluster) -> None:
    """Tables come before pods, each service has its tag, a rollback runs no migration, and no object is left over."""
    deployed: list[dict[str, str]] = []
    cluster.at_end = lambda: deployed.append(cluster.images())

    cluster.helm("install", RELEASE, CHART, *EVERYTHING)
    first = {"gateway": "gateway:1.2.2", "workers": "workers:1.2.3", "llm-service": "llm-service:1.2.3"}
    kinds = cluster.kinds()
    assert (["gateway:1.2.3"], [{}], first) == (ran(cluster), deployed, cluster.images())
    assert {"Ingress", "HorizontalPodAutoscaler", "PodDisruptionBudget", "ScaledObject", "ServiceMonitor"} < set(kinds)
    assert "Job" not in kinds

    new = ("--set", "images.tag=1.3.0", "--set")
    cluster.helm("upgrade", RELEASE, CHART, *EVERYTHING, *new, "gateway.tag=1.2.2,workers.tag=1.2.3")
    assert (["gateway:1.3.0"], first) == (ran(cluster), deployed[-1])
    assert {**first, "llm-service": "llm-service:1.3.0"} == cluster.images()
    cluster.helm("upgrade", RELEASE, CHART, *EVERYTHING, *new, "gateway.tag=1.2.2,workers.tag=")
    cluster.helm("upgrade", RELEASE, CHART, *EVERYTHING, *new, "gateway.tag=")
    last = {"gateway": "gateway:1.3.0", "workers": "workers:1.3.0", "llm-service": "llm-service:1.3.0"}
    assert (["gateway:1.3.0"] * 2, last, kinds) == (ran(cluster), cluster.images(), cluster.kinds())

    cluster.helm("rollback", RELEASE, "3")
    assert ([], {**last, "gateway": "gateway:1.2.2"}) == (ran(cluster), cluster.images())
    cluster.helm("rollback", RELEASE, "1")
    assert ([], first, kinds) == (ran(cluster), cluster.images(), cluster.kinds())

    cluster.helm("uninstall", RELEASE)
    assert ([], []) == (ran(cluster), cluster.kinds())


def test_optional_parts_go_when_they_are_turned_off(cluster: Cluster) -> None:
    """An upgrade without the optional parts removes them."""
    cluster.helm("install", RELEASE, CHART, *EVERYTHING)
    cluster.helm("upgrade", RELEASE, CHART, "--values", ci("minimal"))

    assert ["Deployment"] * 3 + ["Service"] * 2 + ["ServiceAccount"] == cluster.kinds()


def test_nothing_is_changed_if_the_migration_fails(cluster: Cluster) -> None:
    """If tables cannot be brought up to the new version, the old pods stay, and the Job is kept for its log."""
    cluster.helm("install", RELEASE, CHART, *EVERYTHING)
    before = cluster.images()
    cluster.fails = True
    upgraded = cluster.helm("upgrade", RELEASE, CHART, *EVERYTHING, "--set", "images.tag=1.3.0", check=False)

    assert (1, True) == (upgraded.returncode, "pre-upgrade hooks failed" in upgraded.stderr), upgraded.stderr
    assert (before, 1) == (cluster.images(), cluster.kinds().count("Job"))
