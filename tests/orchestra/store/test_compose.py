"""Promises of orchestra/store/compose.py: what is composed is text like that which is written by hand."""

from sqlalchemy import bindparam, insert, select

from orchestra.store.compose import composed, matches, parameters
from orchestra.store.tables import users


def test_values_are_written_and_names_are_parameters() -> None:
    """The planner sees a value that is part of the statement; what differs from call to call is a named parameter."""
    statement = select(users.c.id).where(matches(users.c.tenant), users.c.role == "it's").limit(bindparam("limit"))

    text = " ".join(composed(statement).split())

    assert "SELECT users.id FROM users WHERE users.tenant = :tenant AND users.role = 'it''s' LIMIT :limit" == text


def test_columns_take_the_parameters_of_their_names() -> None:
    """A row is written from named parameters, those of the columns that are named and no others."""
    text = composed(insert(users).values(parameters("tenant", "username")).returning(users.c.id))

    assert "INSERT INTO users (tenant, username) VALUES (:tenant, :username) RETURNING users.id" == text
