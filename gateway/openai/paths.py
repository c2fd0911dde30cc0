"""Where OpenAI's API is found: below a prefix of its own, and as far as our own API leaves room, beside it."""

from collections.abc import Sequence

from gateway.http.route import Route

PREFIX = "/openai/v1"
_OWN = "/v1"


def under_v1_too(routes: Sequence[Route]) -> list[Route]:
    """These routes of the prefix, and each at the same path below ``/v1``."""
    return [*routes, *(route.at(_OWN + route.path.removeprefix(PREFIX)) for route in routes)]


def under_prefix_too(routes: Sequence[Route]) -> list[Route]:
    """These routes of our own API, and each at the same path below the prefix."""
    return [*routes, *(route.at(PREFIX + route.path.removeprefix(_OWN)) for route in routes)]
