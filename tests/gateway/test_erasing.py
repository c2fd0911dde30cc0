"""Promises of gateway/erasing.py: nothing new is accepted from an owner that is being erased."""

from typing import Any

import pytest

from gateway.erasing import Erasing
from gateway.people.principal import EVERYTHING, Principal
from orchestra.signing import OwnerHasher
from orchestra.store import erasures
from schemas.errors import ErrorCode, OrchestraError
from tests.support.fakes import Calls

NOW, BEFORE = b"n" * 32, b"b" * 32


@pytest.mark.parametrize("secret", [NOW, BEFORE])
async def test_only_the_erased_owner_is_refused(monkeypatch: pytest.MonkeyPatch, secret: bytes) -> None:
    """The owner of this name in this tenant is refused, also if the erasure was noted with the previous secret."""
    erased = "default", OwnerHasher([secret]).hash("default", "ann")
    monkeypatch.setattr(erasures, "running", Calls(frozenset([erased]), frozenset()))
    erasing, database = Erasing([NOW, BEFORE]), Any
    await erasing.look(database)  # type: ignore[arg-type]

    with pytest.raises(OrchestraError) as caught:
        erasing.check(Principal("default", "ann", EVERYTHING))

    assert ErrorCode.OWNER_ERASED == caught.value.code
    for tenant, owner in (("default", "bob"), ("other", "ann")):
        erasing.check(Principal(tenant, owner, EVERYTHING))
    await erasing.look(database)  # type: ignore[arg-type]
    erasing.check(Principal("default", "ann", EVERYTHING))
