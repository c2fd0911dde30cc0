"""What the guide for producers tells to type about Kafka is what the topics are."""

import re

from schemas.topics import REQUESTS, TOPICS
from tests.support.tree import ROOT
from workers.app import GROUP

GUIDE = (ROOT / "docs/howto/produce-to-kafka.md").read_text("utf-8")
WHO = {"producers": "shop", "consumers": "shop", "gateway": "gateway", "workers": "worker"}


def rights(line: str) -> set[tuple[str, str, str]]:
    """User, operation and topic of a line that gives rights."""
    found = {name: re.findall(rf"--{name} (\S+)", line) for name in ("allow-principal", "operation", "topic")}
    users = [user.removeprefix("User:") for user in found["allow-principal"]]
    return {(u, op, topic) for u in users for op in found["operation"] for topic in found["topic"]}


def test_rights_are_those_that_the_topics_need() -> None:
    """The lines give each part the right to write and read what the table of topics says, and no other."""
    given = {right for line in GUIDE.splitlines() if line.startswith("$ACLS") for right in rights(line)}
    needed = {(WHO[who], "Write", topic.name) for topic in TOPICS for who in topic.written_by}
    needed |= {(WHO[who], "Read", topic.name) for topic in TOPICS for who in topic.read_by if who in WHO}

    assert needed == {right for right in given if right[0] != "operator"}
    assert {topic.name for topic in TOPICS if not topic.name.startswith("llm.")} == set()
    assert f"--operation Read --group {GROUP}\n" in GUIDE


def test_a_further_topic_gets_the_settings_of_ours() -> None:
    """The line that makes a tenant's topic has the settings and partitions of `llm.requests`."""
    line = re.search(r"kafka-topics.sh .*?\n```", GUIDE, re.DOTALL)
    assert line
    settings = dict(pair.split("=", 1) for pair in re.findall(r"--config (\S+)", line[0]))

    assert {**REQUESTS.config, "retention.ms": str(REQUESTS.retention_ms)} == settings
    assert f"--partitions {REQUESTS.partitions} " in line[0]
