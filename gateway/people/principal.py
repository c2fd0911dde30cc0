"""The caller of a request: whose data it sees, what it may do, and who owns what it creates."""

from dataclasses import dataclass, field, replace
from uuid import UUID

from gateway.people.tokens import WebSession
from orchestra.store.claims import Owner
from orchestra.store.keys import Session
from orchestra.store.turns import ConversationRef, RequestRef
from schemas.api.keys import Scope
from schemas.envelope import DEFAULT_TENANT

EVERYTHING = frozenset(Scope)


@dataclass(frozen=True)
class Principal:
    """A caller. ``user``: the owner of what it creates, a user's id or a name; empty: the tenant itself.

    ``session``: set if it signed in with a password, so it is a person and not a program. ``user_id``: the person's own
    id, even while acting for another user. ``key_id``: of the key that identified it. ``web``: set if a cookie did.
    """

    tenant: str
    user: str
    scopes: frozenset[Scope]
    session: Session | None = None
    user_id: UUID | None = None
    key_id: str | None = field(default=None, compare=False)
    web: WebSession | None = field(default=None, compare=False)

    @property
    def identified(self) -> bool:
        """True for a caller with credentials."""
        return self.key_id is not None or self.user_id is not None

    @property
    def shown(self) -> str:
        """The credential as it may appear in logs."""
        if self.key_id is not None:
            return f"key {self.key_id}"
        return f"user {self.user_id}" if self.user_id else "nobody"

    @property
    def admin(self) -> bool:
        """True for a caller that may see and do everything in its tenant."""
        return Scope.ADMIN in self.scopes

    @property
    def actor(self) -> str:
        """The credential as the audit names it: `key:ID`, `user:ID` or `nobody`."""
        return self.shown.replace(" ", ":")

    @property
    def only(self) -> str | None:
        """The only owner whose data it sees; None: every owner of the tenant."""
        return None if self.admin else self.user

    def allowed_priority(self, wanted: int | None, most: int) -> int | None:
        """The wanted priority, lowered to ``most`` unless the caller has the scope; without credentials, always."""
        may_exceed = Scope.PRIORITY in self.scopes and self.identified
        return wanted if wanted is None or may_exceed else min(wanted, most)

    @property
    def as_operator(self) -> "Principal":
        """The caller for acting on requests: with the scope ``operate``, on those of every owner of the tenant.

        An operator may not read what others said: answer with what this one sees only ``without_texts``.
        """
        return replace(self, scopes=self.scopes | {Scope.ADMIN}) if Scope.OPERATE in self.scopes else self

    @property
    def owner(self) -> Owner:
        """The owner of what it creates: tenant and user."""
        return self.tenant, self.user

    def request(self, id: UUID) -> RequestRef:
        """A request of this caller's tenant."""
        return RequestRef(self.tenant, id)

    def conversation(self, id: UUID) -> ConversationRef:
        """A conversation of this caller's tenant."""
        return ConversationRef(self.tenant, id)

    def sees(self, owner: str | None) -> bool:
        """True when it may see the data of this owner."""
        return self.admin or (owner is not None and owner == self.user)


def nameless(user: str = "") -> Principal:
    """A caller without credentials in open mode, who may do everything; ``user`` is the name that they gave."""
    return Principal(DEFAULT_TENANT, user, EVERYTHING)
