"""Who is calling: whose data it sees, what it may do, and in whose name it makes things."""

from dataclasses import dataclass, field
from uuid import UUID

from orchestra.store.claims import Owner
from orchestra.store.keys import Session
from orchestra.store.turns import ConversationRef, RequestRef
from schemas.api.keys import Scope
from schemas.envelope import DEFAULT_TENANT

EVERYTHING = frozenset(Scope)
_NOBODY = "nobody"


@dataclass(frozen=True)
class Principal:
    """A caller. ``user``: who owns what it makes, a user's id or a name; empty: the tenant itself.

    ``session``: of one who signed in by password, so a person and no program. ``user_id``: the person's own id, whoever
    it acts for.
    ``shown``: the credential, as a log may name it.
    """

    tenant: str
    user: str
    scopes: frozenset[Scope]
    session: Session | None = None
    user_id: UUID | None = None
    shown: str = field(default=_NOBODY, compare=False)

    @property
    def admin(self) -> bool:
        """True for those who see and may do everything in their tenant."""
        return Scope.ADMIN in self.scopes

    @property
    def only(self) -> str | None:
        """The owner whose data it sees, and no other's; None: everybody's."""
        return None if self.admin else self.user

    def allowed_priority(self, wanted: int | None, most: int) -> int | None:
        """The priority that it gets where others get at most this one; nobody in particular is as others."""
        may_exceed = Scope.PRIORITY in self.scopes and self.shown != _NOBODY
        return wanted if wanted is None or may_exceed else min(wanted, most)

    @property
    def owner(self) -> Owner:
        """Whose what it makes is."""
        return self.tenant, self.user

    def request(self, id: UUID) -> RequestRef:
        """A request of this caller's tenant."""
        return RequestRef(self.tenant, id)

    def conversation(self, id: UUID) -> ConversationRef:
        """A conversation of this caller's tenant."""
        return ConversationRef(self.tenant, id)

    def sees(self, owner: str | None) -> bool:
        """True when what this owner has is there for it."""
        return self.admin or (owner is not None and owner == self.user)


def nameless(user: str = "") -> Principal:
    """The caller of an open gateway, who may do everything ; ``user`` is what they call themselves."""
    return Principal(DEFAULT_TENANT, user, EVERYTHING)
