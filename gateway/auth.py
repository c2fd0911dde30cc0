"""Who is calling. In open mode everybody is the same nameless user of the default tenant."""

from dataclasses import dataclass
from uuid import UUID

from orchestra.store.turns import Ref
from schemas.envelope import DEFAULT_TENANT


@dataclass(frozen=True)
class Principal:
    """A caller: whose data it sees, and its name within that tenant."""

    tenant: str
    user: str

    def ref(self, id: UUID) -> Ref:
        """A request or conversation of this caller's tenant."""
        return self.tenant, id


def authenticate() -> Principal:
    """The caller of an open gateway."""
    return Principal(tenant=DEFAULT_TENANT, user="")
