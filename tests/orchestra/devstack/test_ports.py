"""Which part gets which port."""

import os
import socket
from dataclasses import asdict

from orchestra.devstack.ports import HOST, Ports, holder, taken


def test_the_usual_ports() -> None:
    """Without a choice the ports are the documented ones, the old system's among them."""
    assert Ports().needed(2, model=True) == {
        "gateway 1": 8080,
        "gateway 1 (tasks)": 8081,
        "LLM service": 8082,
        "model": 8083,
        "Postgres": 15432,
        "Kafka": 19092,
        "Kafka controller": 19093,
        "gateway 2": 19100,
        "gateway 2 (tasks)": 19101,
    }


def test_ports_from_a_base() -> None:
    """With a base all ports are consecutive, in the documented order."""
    assert Ports.from_base(21000).needed(2, model=True) == {
        "gateway 1": 21000,
        "gateway 1 (tasks)": 21001,
        "LLM service": 21002,
        "Kafka": 21003,
        "Postgres": 21004,
        "model": 21005,
        "Kafka controller": 21006,
        "gateway 2": 21007,
        "gateway 2 (tasks)": 21008,
    }


def test_all_ports_follow_the_base() -> None:
    """Two stacks with bases far enough apart share no port, however many gateways and workers they have."""
    usual, based = Ports(), Ports.from_base(21000)
    ports = [*based.needed(20, model=True).values(), *(based.of_worker(number) for number in range(1, 101))]

    assert [*range(21000, 21145)] == sorted(ports)
    assert asdict(usual).keys() == {name for name, port in asdict(based).items() if port != getattr(usual, name)}


def test_no_model_no_port() -> None:
    """Where another provider answers, the model's port may be taken."""
    assert "model" not in Ports().needed(1, model=False)


def test_a_taken_port_is_seen_and_its_holder_named() -> None:
    """A port that something listens on is taken, and free again afterwards."""
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]

        assert taken(port)
        assert f"pid {os.getpid()}" in (holder(port) or "")
    assert not taken(port)
