"""Error texts of known model servers, and the error of our closed list that each means.

The status alone is not enough: an empty account is 400 at Anthropic, 402 at DeepSeek, 429 at OpenAI.
"""

import re
from collections.abc import Iterable

from schemas.errors import ErrorCode

# An error says what is wrong at its start; the rest may be anything, and very long.
_READ_CHARACTERS = 1000
# Text in quotes is the input, not what is wrong with it.
_QUOTED = re.compile(r"""(?<!\w)(['"`])(?:(?!\1).)*(?:\1(?!\w)|\Z)""", re.DOTALL)
# A proxy's error as the repr of a Python dictionary: its quotes do not mark input.
_SHOWN = re.compile(r"""^\s*\{['"]error['"]: ['"]""")
_BETWEEN_WORDS = re.compile(r"[\s_-]+")

# Lower case, one space between words; `*` matches anything, `>` is between the names of the error and its text. The
# first matching row counts, so a more specific one is above a general one.
_TABLE = (
    # Groq and OpenAI, for more than a whole minute's allowance: it never fits, although the code says rate limit.
    (ErrorCode.CONTEXT_TOO_LONG, "request too large"),
    # Gemini uses for a minute's allowance the words of others for an empty account; only an id distinguishes a day's.
    (ErrorCode.QUOTA_EXHAUSTED, "perday"),
    # OpenAI's text continues with where to add a payment method.
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
    # A model that reads no images, or calls no tools, though its API has both. OpenRouter's words begin like others'.
    (
        ErrorCode.UNSUPPORTED_PART,
        """image input is not supported, audio input is not supported, support image input, support audio input,
        not a multimodal model, image url is only supported by""",
    ),
    (
        ErrorCode.UNSUPPORTED_OPTION,
        "does not support tools, does not support function calling, support tool use, tool choice requires",
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
    """The code of an error with these names and this text; None if the table does not have it."""
    said = f"{' '.join(names)[:_READ_CHARACTERS]} > {_QUOTED.sub('', _unwrapped(words)[:_READ_CHARACTERS])}"
    said = _BETWEEN_WORDS.sub(" ", said.lower())
    return next((code for row, code in _ROWS if row.search(said)), None)


def _unwrapped(words: Iterable[str]) -> str:
    return " ".join(_SHOWN.sub("", each) for each in words)
