"""Promises of orchestra/kafka/faults.py: clients fail when they are set to, and only then."""

import json
import os
import subprocess
import sys

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient

from orchestra.kafka.faults import CALLS, environment, parse
from tests.support.tree import ROOT

PROGRAM = """
import asyncio, json
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from orchestra.kafka.faults import arm

done = []
async def whole(self, *_):
    done.append("done")
    return asyncio.get_running_loop().create_future()
AIOKafkaConsumer.commit = AIOKafkaProducer.send = AIOKafkaProducer.stop = whole
arm()

async def tries(method):
    done.clear()
    failed = 0
    for _ in range(100):
        try:
            await method(object())
        except Exception:
            failed += 1
    return failed, len(done)

async def main():
    methods = {"commit": AIOKafkaConsumer.commit, "stop": AIOKafkaProducer.stop, "send": AIOKafkaProducer.send}
    return {name: await tries(method) for name, method in methods.items()}

print(json.dumps(asyncio.run(main())))
"""


def run(faults: str) -> dict[str, list[int]]:
    """What a hundred calls of each came to, as (failed, done)."""
    env = {**os.environ, "KAFKA_FAULTS": faults}
    command = [sys.executable, "-c", PROGRAM]
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return dict(json.loads(ended.stdout.splitlines()[-1]))


def test_nothing_fails_without_orders() -> None:
    """An empty variable leaves the clients as they are."""
    assert {"commit": [0, 100], "stop": [0, 100], "send": [0, 100]} == run("")


def test_calls_fail_before_or_after_they_did_their_work() -> None:
    """By chance; but a client whose stop fails is stopped, and a record whose send fails is not sent."""
    said = run("consumer.commit=1,producer.stop=1,producer.send=1")

    assert 100 == said["commit"][0] == said["stop"][0] == said["send"][0]
    assert 0 < said["commit"][1] < 100
    assert (100, 0) == (said["stop"][1], said["send"][1])


@pytest.mark.parametrize("text", ["nowhere=1", "consumer.commit", "consumer.commit=2", "consumer.commit=x", "commit=1"])
def test_a_wrong_order_is_refused(text: str) -> None:
    """Never a campaign without its danger."""
    with pytest.raises(ValueError, match=r"is not CALL=SHARE|could not convert"):
        parse(text)


def test_what_a_process_is_told_is_what_it_reads() -> None:
    """An environment made for some calls arms exactly these."""
    rates = {"consumer.getmany": 0.02, "producer.acknowledgement": 1.0}

    assert rates == parse(environment(rates)["KAFKA_FAULTS"])


def test_every_call_of_the_list_is_one_of_the_clients() -> None:
    """A method that a new version has renamed would never fail."""
    clients = {"consumer": AIOKafkaConsumer, "producer": AIOKafkaProducer, "client": AIOKafkaClient}
    names = [call.split(".") for call in CALLS if call != "producer.acknowledgement"]

    assert [name for owner, name in names if not hasattr(clients[owner], name)] == []
