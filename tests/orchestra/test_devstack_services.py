"""Promises of orchestra/devstack/services.py: what our own services are told when a stack starts them."""

from pathlib import Path

from orchestra.devstack.services import worker_part


def test_each_worker_shows_its_metrics_on_a_port_of_its_own() -> None:
    """From 9464 on; whoever names a port for a worker gets that one."""
    ports = [worker_part({}, number, Path("ready")).env["METRICS_PORT"] for number in (1, 2, 3)]

    assert ["9464", "9465", "9466"] == ports
    assert "1234" == worker_part({"METRICS_PORT": "1234"}, 1, Path("ready")).env["METRICS_PORT"]
