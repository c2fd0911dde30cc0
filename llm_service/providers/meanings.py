"""How the model servers that we know say what is wrong, and what that is in our closed list of errors.

Their status alone does not tell: an empty account is 400 at Anthropic, 402 at DeepSeek, 429 at OpenAI.
"""

import re
from collections.abc import Iterable

from schemas.errors import ErrorCode

# An error says what is wrong at its beginning; what follows may be anything, and very long.
_READ_CHARACTERS = 1000
# What stands in quotes is what was sent, not what is wrong with it.
_QUOTED = re.compile(r"""(?<!\w)(['"`])(?:(?!\1).)*(?:\1(?!\w)|\Z)""", re.DOTALL)
# A proxy's own error, as Python shows a dictionary: what is quoted in it is no quotation.
_SHOWN = re.compile(r"""^\s*\{['"]error['"]: ['"]""")
_BETWEEN_WORDS = re.compile(r"[\s_-]+")

# Lower case, one space between words; `*` is anything on the way, `>` stands between the names of the error and its
# text. The first row that fits counts, so what somebody says in the words of another stands above it.
_TABLE = (
    # Groq and OpenAI, for more than a whole minute's allowance: it never fits, though the code says rate limit.
    (ErrorCode.CONTEXT_TOO_LONG, "request too large"),
    # Gemini says of a minute's allowance what others say of an empty account; only an id tells a day's apart.
    (ErrorCode.QUOTA_EXHAUSTED, "perday"),
    # OpenAI's text goes on to say where a payment method can be added.
    (ErrorCode.RATE_LIMITED, "resource exhausted*>, rate limit exceeded*>"),
    (
        ErrorCode.QUOTA_EXHAUSTED,
        """insufficient quota, insufficient credit, insufficient balance, insufficient funds, current quota,
        credit balance, credit limit, spending limit, spend limit, api usage limits, used all available credits,
        out of credits, any credits yet, out of call volume quota, budget exceeded, budget has been exceeded,
        billing error, billing hard limit, billing not active,
        billing details, enable billing, payment method, arrearage""",
    ),
    (
        ErrorCode.CONTENT_FILTER,
        """content filter, contentfilter, content policy, contentpolicy, content management policy, policy violation,
        policyviolation, usage policy, usage policies, usage guidelines, moderation, was flagged, invalid prompt,
        unsafe or sensitive, data inspection failed, content exists risk, considered high risk""",
    ),
    (
        ErrorCode.RATE_LIMITED,
        "rate limit, ratelimit, throttling, too many requests, limit requests, please wait before",
    ),
    (
        ErrorCode.CONTEXT_TOO_LONG,
        """context length, context size, context window, contextwindow, context limit, prompt length, input length,
        prompt is too long, input is too long, maximum model length, too many tokens, token count*exceeds,
        model token limit, must have less than * tokens, tokens + must be <=, reduce the length""",
    ),
    (
        ErrorCode.UNKNOWN_MODEL,
        """model not found, model * not found, models/* not found, model not exist, model * not exist,
        model not available, model not supported, model decommissioned, deploymentnotfound, invalid model,
        not a valid model, no endpoints found, unable to access model, not found error > model:""",
    ),
    (
        ErrorCode.OVERLOADED,
        """overloaded, unavailable*>, temporarily unavailable, server busy, server is busy, loading model,
        model is loading, currently loading, capacity exceeded, insufficient system resource""",
    ),
    (
        ErrorCode.AUTH,
        """authentication, auth error, unauthorized, unauthenticated, permission, invalid api key, incorrect api key,
        api key not valid, api key invalid, invalidapikey, invalid api token, location is not supported,
        unsupported country, organization restricted""",
    ),
    (ErrorCode.TIMEOUT, "timeout, timed out, deadline exceeded"),
)


def _pattern(phrases: str) -> re.Pattern[str]:
    each = (re.escape(" ".join(phrase.split())).replace(r"\*", ".{0,200}?") for phrase in phrases.split(","))
    return re.compile("|".join(each))


_ROWS = [(_pattern(phrases), code) for code, phrases in _TABLE]


def meaning(names: Iterable[str], words: Iterable[str]) -> ErrorCode | None:
    """What an error is that calls itself so and says so; None when it is none of the table's."""
    said = f"{' '.join(names)[:_READ_CHARACTERS]} > {_QUOTED.sub('', _unwrapped(words)[:_READ_CHARACTERS])}"
    said = _BETWEEN_WORDS.sub(" ", said.lower())
    return next((code for row, code in _ROWS if row.search(said)), None)


def _unwrapped(words: Iterable[str]) -> str:
    return " ".join(_SHOWN.sub("", each) for each in words)
