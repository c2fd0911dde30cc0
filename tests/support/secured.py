"""Kafka with TLS, passwords and permissions, and Postgres with TLS and a password: as operators run them."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from orchestra.devstack.child import Child
from orchestra.devstack.environment import plain_environment
from orchestra.devstack.kafka import _format, kafka_part
from orchestra.devstack.part import Part
from orchestra.devstack.ports import HOST
from orchestra.devstack.postgres import _account, postgres_answers
from tests.support.ports import free_port
from tests.support.tree import ROOT

# The name for which the servers have certificates.
NAME = "localhost"
PASSWORD = "a-password-with=signs and spaces"
USERS = ("gateway", "worker", "operator")
SETTINGS = (
    "DATABASE_URL",
    "KAFKA_BOOTSTRAP_SERVERS",
    "KAFKA_SASL_MECHANISM",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SASL_USERNAME",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SSL_CAFILE",
    "PGSSLMODE",
    "PGSSLROOTCERT",
)
"""What the chart sets of both stores, with a user and authorities of one's own."""
FIXED = {
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "PGSSLMODE": "verify-full",
}
"""Those of them that no name or address is part of."""
_PAGE = ROOT / "docs/howto/produce-to-kafka.md"
_LACKING = "no Postgres with TLS is installed (that of the wheel has none): apt-get install postgresql"
# Of Kafka's protocol.
_TYPES = {"topic": 2, "group": 3, "cluster": 4}
_OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
_PATTERNS = {"literal": 3, "prefixed": 4}
_ALLOW = 3


@dataclass(frozen=True)
class Authority:
    """A certificate authority of a test, and the certificate that it gave for ``NAME``. All are files (PEM)."""

    ca: Path
    certificate: Path
    key: Path


def authority(folder: Path, name: str = "ca") -> Authority:
    """A new one, by openssl."""
    made = Authority(*(folder / f"{name}.{end}" for end in ("ca.pem", "crt.pem", "key.pem")))
    ca_key, request, extensions = (folder / f"{name}.{end}" for end in ("ca.key", "csr", "ext"))
    extensions.write_text(f"subjectAltName=DNS:{NAME}\n")
    new = ("req", "-newkey", "rsa:2048", "-nodes", "-subj")
    for words in (
        (*new, "/CN=authority", "-x509", "-days", "2", "-keyout", ca_key, "-out", made.ca),
        (*new, f"/CN={NAME}", "-keyout", made.key, "-out", request),
        ("x509", "-req", "-in", request, "-CA", made.ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2",
         "-extfile", extensions, "-out", made.certificate),
    ):  # fmt: skip
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
    return made


@dataclass(frozen=True)
class Secured:
    """``env``: for each user what its service receives. ``plain``: a listener of Kafka without TLS, for the test."""

    env: dict[str, dict[str, str]]
    authority: Authority
    plain: str


@asynccontextmanager
async def open_secured(folder: Path) -> AsyncIterator[Secured]:
    """Both stores, with the permissions that the documentation lists. Skips, with the reason, without a Postgres."""
    own = authority(folder)
    async with _kafka(folder / "kafka", own) as (plain, secured), _postgres(folder / "postgres", own) as url:
        env = {
            user: {
                "DATABASE_URL": url,
                **FIXED,
                "PGSSLROOTCERT": str(own.ca),
                "KAFKA_BOOTSTRAP_SERVERS": secured,
                "KAFKA_SASL_USERNAME": user,
                "KAFKA_SASL_PASSWORD": PASSWORD,
                "KAFKA_SSL_CAFILE": str(own.ca),
            }
            for user in USERS
        }
        yield Secured(env, own, plain)


@asynccontextmanager
async def _kafka(folder: Path, own: Authority) -> AsyncIterator[tuple[str, str]]:
    """The addresses of its two listeners. A client of the plain one may do all."""
    plain, secured = free_port(), free_port()
    part = await kafka_part(folder, plain, free_port(), lambda _: None)
    properties = Path(part.command[-1])
    keys = folder / "keystore.pem"
    keys.write_bytes(own.key.read_bytes() + own.certificate.read_bytes())
    module = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    text = properties.read_text()
    for name in ("listeners", "advertised.listeners"):
        host = NAME if name == "advertised.listeners" else HOST
        text = text.replace(f"\n{name}=", f"\n{name}=SASL_SSL://{host}:{secured},")
    text = text.replace(".protocol.map=", ".protocol.map=SASL_SSL:SASL_SSL,")
    # Brokers and tools of the test are anonymous.
    more = {
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": module,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": keys,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "false",
    }
    properties.write_text(text + "".join(f"{name}={value}\n" for name, value in more.items()))
    shutil.rmtree(folder / "data")
    await _format(properties, part.env, *_scram())
    child = Child(part, folder / "log")
    try:
        await child.start()
        await _permit(f"{HOST}:{plain}")
        yield f"{HOST}:{plain}", f"{NAME}:{secured}"
    finally:
        await child.kill()


def _scram() -> list[str]:
    return [word for user in USERS for word in ("--add-scram", f'SCRAM-SHA-512=[name={user},password="{PASSWORD}"]')]


async def _permit(bootstrap: str) -> None:
    """Grant what the page lists to each user, and nothing else."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        for each in permissions():
            response = await admin._send_request(CreateAclsRequest(*each))
            assert [0] == [code for code, _ in response.creation_responses]
    finally:
        await admin.close()


def permissions() -> list[tuple[int, str, int, str, str, int, int]]:
    """The lines of the page, as Kafka's protocol has them."""
    found = []
    for line in re.findall(r"^\$ACLS (.+)$", _PAGE.read_text("utf-8"), re.MULTILINE):
        words = line.split()
        options: dict[str, list[str]] = {}
        for word, value in zip(words, [*words[1:], ""], strict=True):
            if word.startswith("--"):
                options.setdefault(word, []).append(value)
        (principal,) = options["--allow-principal"]
        (pattern,) = options.get("--resource-pattern-type", ["literal"])
        resources = [(kind, name) for kind in ("topic", "group") for name in options.get(f"--{kind}", [])]
        if "--cluster" in options:
            resources.append(("cluster", "kafka-cluster"))
        found += [
            (_TYPES[kind], name, _PATTERNS[pattern], principal, "*", _OPERATIONS[operation], _ALLOW)
            for kind, name in resources
            for operation in options["--operation"]
        ]
    return found


@asynccontextmanager
async def _postgres(folder: Path, own: Authority) -> AsyncIterator[str]:
    """The URL of its superuser. It takes no connection without TLS."""
    programs, account, port = _programs(), _account(), free_port()
    folder.mkdir(mode=0o711)
    data, key, hba, password = (folder / name for name in ("data", "key.pem", "hba.conf", "password"))
    data.mkdir()
    shutil.copy(own.key, key)
    hba.write_text("hostssl all all all scram-sha-256\n")
    password.write_text("secret")
    for path in (data, key, hba, password):
        path.chmod(0o700 if path == data else 0o600)
        if account:
            shutil.chown(path, account.uid, account.gid)
    own.certificate.chmod(0o644)
    cluster = (f"--pgdata={data}", "--username=orchestra", f"--pwfile={password}", "--locale=C.UTF-8")
    await asyncio.to_thread(
        subprocess.run,
        [programs / "initdb", *cluster, "--auth=scram-sha-256", "--no-sync"],
        user=account.uid if account else None,
        group=account.gid if account else None,
        cwd="/",
        env=plain_environment(),
        capture_output=True,
        check=True,
    )
    settings = {
        "listen_addresses": HOST, "port": port, "unix_socket_directories": "", "fsync": "off", "ssl": "on",
        "ssl_cert_file": own.certificate, "ssl_key_file": key, "hba_file": hba,
    }  # fmt: skip
    url = f"postgres://orchestra:secret@{NAME}:{port}/postgres"
    part = Part(
        name="postgres",
        command=[str(programs / "postgres"), "-D", str(data)],
        env=plain_environment(),
        ready=lambda: postgres_answers(f"{url}?sslmode=require"),
        account=account,
    )
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    child = Child(replace(part, command=[*part.command, *options]), folder / "log")
    try:
        await child.start()
        yield url
    finally:
        await child.kill()


def _programs() -> Path:
    for found in sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4])):
        if int(found.parts[4]) >= 15:
            return found.parent
    pytest.skip(_LACKING)
