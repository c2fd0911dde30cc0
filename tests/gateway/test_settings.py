from typing import Any

import pytest

from gateway.settings import GatewaySettings

SECRET = {"orchestra_secret": "x" * 32}


def make(**settings: Any) -> GatewaySettings:
    return GatewaySettings.model_validate({**SECRET, **settings})


def test_hosts() -> None:
    """The names by which the gateway may be called are the local ones and those of ALLOWED_HOSTS."""
    local = {"127.0.0.1", "localhost", "::1"}
    assert make().hosts == local
    assert make(allowed_hosts=" Orchestra.Example , [fe80::1],,").hosts == local | {"orchestra.example", "fe80::1"}


@pytest.mark.parametrize(
    "settings",
    [{"host": "0.0.0.0"}, {"host": "example.org", "open_mode": False}, {"open_mode": False}, {"host": "127.0.0.2"}],
)
def test_not_open_by_accident(settings: dict[str, Any]) -> None:
    """Nobody opens a gateway to strangers without saying so."""
    assert make(**settings).asks_credentials


@pytest.mark.parametrize("settings", [{}, {"host": "::1"}, {"host": "0.0.0.0", "open_mode": True}])
def test_open(settings: dict[str, Any]) -> None:
    """On loopback, or when it is said, it is open."""
    assert not make(**settings).asks_credentials
