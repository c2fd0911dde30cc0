"""What people and CI run is the same, and what is built is whole."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml

from gateway.settings import PUBLISHED_SECRET
from release.tools import LOCKS
from tests.support.compose_files import compose_files, services_of
from tests.support.tree import PACKAGES, ROOT

MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
BAKE = (ROOT / "docker-bake.hcl").read_text("utf-8")
PIPELINE = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text("utf-8"))
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def test_every_target_explains_itself() -> None:
    """`make help` lists each target with what it does."""
    # Without what the `make` tells its children that this test may itself be run by.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
    shown = subprocess.run(["make", "help"], cwd=ROOT, env=clean, capture_output=True, text=True, check=True).stdout

    assert {line.split()[0] for line in shown.splitlines()[1:]} == TARGETS
    assert all(len(line.split()) > 2 for line in shown.splitlines()[1:])


def test_targets_are_no_files() -> None:
    """A file by the name of a target does not keep the target from running."""
    assert set(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[0].split()) == TARGETS


@pytest.mark.parametrize("path", [".ci/run", ".gitlab-ci.yml", ".pre-commit-config.yaml", "CONTRIBUTING.md"])
def test_targets_that_are_named_exist(path: str) -> None:
    """Each `make TARGET` that is written down is one that the Makefile has."""
    text = (ROOT / path).read_text("utf-8")
    named = set(re.findall(r"(?:^\s*|[:`] ?)make ([a-z-]+)", text, re.MULTILINE))

    assert named
    assert named <= TARGETS


def test_ci_has_no_logic_of_its_own() -> None:
    """Each CI job runs one make target, and together they check, test, break, build, package and release."""
    templates = {name: job for name, job in PIPELINE.items() if name.startswith(".")}
    jobs = [job for job in PIPELINE.values() if isinstance(job, dict) and "script" in job]
    stages = {{**templates.get(job.get("extends"), {}), **job}["stage"] for job in jobs}

    assert ["lint", "test", "faults", "build", "docker", "release"] == PIPELINE["stages"]
    assert set(PIPELINE["stages"]) == stages
    assert [job["script"] for job in jobs if not re.fullmatch(r"make [a-z-]+( ARGS=.*)?", job["script"])] == []


def test_ci_tests_each_python_that_is_promised() -> None:
    """From the first Python that the package allows to the newest, with that of the images."""
    (versions,) = (each["VERSION"] for each in PIPELINE["test"]["parallel"]["matrix"])
    first = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"].strip(">= ")
    images = re.findall(r"^FROM python:([\d.]+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)

    assert [f"3.{minor}" for minor in range(int(first.split(".")[1]), 15)] == versions
    assert set(images) <= set(versions)


def test_releases_are_made_by_tags_alone() -> None:
    """No job of the last stage runs unless a version was tagged, and none of them is cut short by a newer commit."""
    released = [job for job in PIPELINE.values() if isinstance(job, dict) and job.get("stage") == "release"]

    assert released
    assert [[{"if": "$CI_COMMIT_TAG =~ /^v[0-9]/"}]] * len(released) == [job["rules"] for job in released]
    assert not any(job["interruptible"] for job in released)


def test_images_of_a_release_name_its_commit() -> None:
    """The job that publishes images sets each argument of their labels."""
    arguments = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["x-args"]

    assert set(arguments) <= set(PIPELINE["release-images"]["variables"])


def test_images_of_a_release_are_for_both_architectures_and_say_what_they_are_made_of() -> None:
    """Each image of the Dockerfile is built for a release, for x86-64 and ARM, with an SBOM and provenance."""
    (released,) = re.findall(r'^target "release-image" \{\n(.*?)^\}', BAKE, re.MULTILINE | re.DOTALL)
    images = re.findall(r"^FROM service AS (\w+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    settings = dict(re.findall(r"^  (\w+) += (.*)$", released, re.MULTILINE))
    groups = {
        name: json.loads(targets)
        for name, targets in re.findall(r'^group "(\w+)" \{ targets = (.*) \}', BAKE, re.MULTILINE)
    }

    assert ["linux/amd64", "linux/arm64"] == json.loads(settings["platforms"])
    assert ["type=provenance,mode=max", "type=sbom"] == json.loads(settings["attest"])
    assert [json.dumps(images)] * 2 == re.findall(r"matrix += \{ service = (.*) \}", BAKE)
    assert {"default": images, "release": [f"release-{image}" for image in images]} == groups


def test_images_are_built_by_one_definition() -> None:
    """People and CI build images by `make images` and `make push-images`, and both read docker-bake.hcl alone."""
    recipes = dict(re.findall(r"^(images|push-images):.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE))

    assert re.findall(r"^bake = (.*)$", MAKEFILE, re.MULTILINE) == ["docker buildx bake --file docker-bake.hcl"]
    assert ["$(bake) --load $(ARGS)"] == re.findall(r"\$\(bake\).*", recipes["images"])
    assert ["$(bake) --push $(ARGS) release"] == re.findall(r"\$\(bake\).*", recipes["push-images"])
    assert ("make images", "make push-images") == (PIPELINE["images"]["script"], PIPELINE["release-images"]["script"])


def test_what_buildx_makes_of_the_definition() -> None:
    """buildx reads it: of this machine, as compose names the images; of a release, with the version but not its `v`."""
    if not shutil.which("docker") or subprocess.run(("docker", "buildx", "version"), check=False).returncode:
        pytest.skip("docker buildx is not installed")
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"].values()
    here = _baked("images")
    released = _baked("push-images", "IMAGES=registry.example/o", "VERSION=v9.8.7", "REVISION=abc")

    assert {tag for each in here for tag in each["tags"]} == {
        service["image"] for service in compose if "build" in service
    }
    assert not any(each.keys() & {"platforms", "attest"} for each in here)
    assert [tag for each in released for tag in each["tags"]] == [
        "registry.example/o/gateway:9.8.7", "registry.example/o/llm-service:9.8.7", "registry.example/o/workers:9.8.7"
    ]  # fmt: skip
    assert [{"VERSION": "9.8.7", "REVISION": "abc"}] * 3 == [each["args"] for each in released]
    assert [["linux/amd64", "linux/arm64"]] * 3 == [each["platforms"] for each in released]
    assert [["provenance", "sbom"]] * 3 == [[one["type"] for one in each["attest"]] for each in released]
    assert [[{"type": "image", "push": "true"}]] * 3 == [each["output"] for each in released]


def _baked(*words: str) -> list[dict[str, Any]]:
    """The targets that `make` with these words builds, in the order of their names."""
    others = ("MAKE", "MFLAGS", "IMAGES", "VERSION", "REVISION")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    done = subprocess.run(
        ["make", "--no-print-directory", *words, "ARGS=--print"], cwd=ROOT, env=clean, capture_output=True, check=True
    )
    return [target for _, target in sorted(json.loads(done.stdout)["target"].items())]


def test_images_hold_what_their_bill_of_materials_lists() -> None:
    """Each lock that an image installs is one whose packages a release lists, and it installs nothing else."""
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    synced = re.findall(
        r"^COPY (requirements-\w+\.lock) \./\n.*\n.*uv pip sync .* --require-hashes \1$", dockerfile, re.MULTILINE
    )

    assert ["requirements-pipeline.lock", "requirements-llm.lock"] == synced
    assert set(synced) <= {path.name for path in LOCKS.values()}
    assert ["--no-deps /wheel/*.whl"] * 2 == re.findall(r"uv pip install --python \S+ (.*)", dockerfile)


def test_the_wheel_is_whole(tmp_path: Path) -> None:
    """The wheel holds every file of the packages: code, published schemas, migrations, data of the embedded stack."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert files == packed
    assert {"schemas/published/llm.reply.json", "migrations/0001_initial.sql"} <= packed


def test_compose_publishes_on_loopback_only() -> None:
    """Nothing that compose starts can be reached from another machine."""
    ports = [port for _, service in services_of(*compose_files()) for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_log_of_a_container_grows_without_end() -> None:
    """Each service that has an image or is built limits its log; Docker's default is no limit."""
    started = [(name, each) for name, each in services_of(*compose_files()) if each.keys() & {"image", "build"}]

    assert len(started) >= 10
    assert [] == [name for name, each in started if not each.get("logging", {}).get("options", {}).get("max-size")]


def test_compose_has_one_published_secret_and_can_change_it() -> None:
    """The default secret is the one that gateways which require credentials refuse; the old one is passed with it."""
    environments = [service.get("environment", {}) for _, service in services_of(ROOT / "compose.yaml")]
    signing = [each for each in environments if "ORCHESTRA_SECRET" in each]

    assert {"${ORCHESTRA_SECRET:-" + PUBLISHED_SECRET + "}"} == {each["ORCHESTRA_SECRET"] for each in signing}
    assert all("ORCHESTRA_SECRET_OLD" in each for each in signing)


def test_metrics_of_workers_in_containers_can_be_scraped() -> None:
    """Each container serves them on one port of its own address, which compose opens to its network alone."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")

    assert ["9464"] == services["workers"]["expose"]
    assert "METRICS_HOST=0.0.0.0 METRICS_PORT=9464\nEXPOSE 9464\n" in dockerfile


def test_images_run_as_nobody() -> None:
    """Every image runs as a numeric user that is not root, and says how it is."""
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    images = re.split(r"^FROM ", dockerfile, flags=re.MULTILINE)

    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", dockerfile, re.MULTILINE)
    assert {"gateway", "workers", "llm_service"} == {
        image.split()[2] for image in images if image.startswith("service AS") and "HEALTHCHECK" in image
    }
