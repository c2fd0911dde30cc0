"""compose.yaml, brought up from images that are built from this checkout, on ports and under a name of its own."""

import os
import re
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from tests.support.compose_files import services_of
from tests.support.containers import docker_answers
from tests.support.ports import free_ports
from tests.support.tree import ROOT

SERVICES = ("postgres", "kafka", "llm_service", "gateway", "workers")
_PORTS = (
    "GATEWAY_PORT", "TASKS_PORT", "LLM_SERVICE_PORT", "KAFKA_PORT", "KAFKA2_PORT", "KAFKA3_PORT", "POSTGRES_PORT",
)  # fmt: skip
_FILE = "compose.yaml"
# Of our own environment, only what the docker command itself needs: the tests are of the defaults in compose.yaml.
_KEPT = ("PATH", "HOME", "XDG_RUNTIME_DIR")
# An Ollama of this machine is left alone: the name is that of a profile which is not started.
_NO_OLLAMA = {"OLLAMA_BASE_URL": "http://ollama:11434"}


class Compose:
    """One project. ``ports`` are those on this machine, by the names that compose.yaml gives them.

    ``folder``: the checkout that it is run in; it may change. ``files``: each is laid over those before it.
    """

    def __init__(self, client: docker.DockerClient, folder: Path, files: Sequence[str]) -> None:
        self.folder = folder
        self._files = [word for file in files for word in ("--file", file)]
        first = free_ports(len(_PORTS))
        self.ports = {name: first + place for place, name in enumerate(_PORTS)}
        self._project = f"orchestra-test-{secrets.token_hex(4)}"
        self._client = client

    def run(self, *words: str) -> None:
        """Run ``docker compose``; an assertion fails when it does."""
        own = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("DOCKER_")}
        own |= _NO_OLLAMA
        done = subprocess.run(
            ["docker", "compose", "--project-name", self._project, "--env-file", os.devnull, *self._files, *words],
            cwd=self.folder,
            env=own | {name: str(port) for name, port in self.ports.items()},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def containers(self, service: str) -> list[Container]:
        """The containers of a service, ended ones too, in the order of their numbers."""
        labels = [f"com.docker.compose.project={self._project}", f"com.docker.compose.service={service}"]
        found = self._client.containers.list(all=True, filters={"label": labels})
        return sorted(found, key=lambda each: int(each.labels["com.docker.compose.container-number"]))

    def health(self, service: str) -> list[str]:
        """What the health check of each running container of a service says."""
        states = [container.attrs["State"] for container in self.containers(service)]
        return [state["Health"]["Status"] for state in states if state["Status"] == "running"]

    def all_healthy(self) -> bool:
        """Whether every service runs, and each of its containers is well."""
        return all(map(self.is_healthy, SERVICES))

    def is_healthy(self, service: str) -> bool:
        """Whether a service runs, and each of its containers is well."""
        return {"healthy"} == set(self.health(service))

    def logs(self) -> str:
        """The last lines of every container."""
        return "\n".join(
            f"{container.name}:\n{container.logs(tail=20).decode(errors='replace')}"
            for service in (*SERVICES, "migrate")
            for container in self.containers(service)
        )


@contextmanager
def open_compose(*words: str, folder: Path = ROOT, files: Sequence[str] = (_FILE,)) -> Iterator[Compose]:
    """Everything up and healthy; ``words`` are added to the command. Skips, with the reason, where that cannot be."""
    need_compose(folder, files)
    with closing(docker.from_env(timeout=60)) as client:
        compose = Compose(client, folder, files)
        try:
            compose.run("up", "--build", "--detach", "--wait", "--wait-timeout", "300", *words)
            yield compose
        except AssertionError as error:
            error.add_note(compose.logs())
            raise
        finally:
            compose.run("down", "--volumes", "--timeout", "5")


def need_compose(folder: Path = ROOT, files: Sequence[str] = (_FILE,)) -> None:
    """Skip the test, with the reason, where this cannot be brought up."""
    if reason := _missing(folder, files):
        pytest.skip(reason)


def _missing(folder: Path, files: Sequence[str]) -> str | None:
    """What this machine lacks to bring it up, or None."""
    try:
        subprocess.run(["docker", "compose", "version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "the command `docker compose` is not here"
    if not docker_answers():
        return "no Docker daemon answers"
    with closing(docker.from_env(timeout=10)) as client:
        here = {tag for image in client.images.list() for tag in image.tags}
    lacking = sorted(_base_images(folder, files) - here)
    return f"these images are not here: docker pull {' '.join(lacking)}" if lacking else None


def _base_images(folder: Path, files: Sequence[str]) -> set[str]:
    """The images that are not ours."""
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", (folder / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    bases = {base for base, _ in stages} - {name for _, name in stages}
    services = [each for _, each in services_of(*(folder / file for file in files)) if "profiles" not in each]
    return bases | {each["image"] for each in services if "image" in each and "build" not in each}
