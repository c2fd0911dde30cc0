"""What the servers that we know answer with, as they write it, and what it is in our closed list."""

from typing import Any

import orjson
import pytest

from llm_service.providers.refusals import refused, stated
from schemas.errors import ErrorCode

_TOO_LONG, _FILTER, _MODEL = ErrorCode.CONTEXT_TOO_LONG, ErrorCode.CONTENT_FILTER, ErrorCode.UNKNOWN_MODEL
_REFUSED, _AUTH, _QUOTA = ErrorCode.REFUSED_BY_PROVIDER, ErrorCode.AUTH, ErrorCode.QUOTA_EXHAUSTED
_RATE, _BUSY, _TIMEOUT, _BAD = ErrorCode.RATE_LIMITED, ErrorCode.OVERLOADED, ErrorCode.TIMEOUT, ErrorCode.BAD_UPSTREAM

_NO_PART, _NO_OPTION = ErrorCode.UNSUPPORTED_PART, ErrorCode.UNSUPPORTED_OPTION


def _error(message: str, type: str | None = None, code: object = None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def _extra(*loc: object) -> list[dict[str, Any]]:
    return [
        {
            "type": "extra_forbidden",
            "loc": ["body", *loc],
            "msg": "Extra inputs are not permitted",
            "input": "rate limit",
        }
    ]


def _google(code: int, message: str, status: str, *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": details}}


def _quota(quota_id: str) -> dict[str, Any]:
    return _google(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "RESOURCE_EXHAUSTED",
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota_id}]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"},
    )


def _anthropic(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


_OPENAI_LIMIT = (
    "Rate limit reached for gpt-4o in organization org-x on requests per min (RPM): Limit 3. Please try again in 20s. "
    "You can increase your rate limit by adding a payment method at https://platform.openai.com/account/billing."
)
_TOO_LARGE = (
    "Request too large for model `llama-3` in organization `org_x` on tokens per minute (TPM): Limit 6000, Requested "
    "8000, please reduce your message size and try again."
)
_MAXIMUM = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."
_OUR_GEMINI = "models/none is not found for API version v1beta, or is not supported for generateContent."
_NESTED = '{"error":{"code":429,"message":"Resource has been exhausted","status":"RESOURCE_EXHAUSTED"}}'

WIRES: list[tuple[str, int, object, ErrorCode]] = [
    (
        "openai context",
        400,
        _error(_MAXIMUM, "invalid_request_error", "context_length_exceeded", "messages"),
        _TOO_LONG,
    ),
    ("openai rate", 429, _error(_OPENAI_LIMIT, "requests", "rate_limit_exceeded"), _RATE),
    ("openai too large", 429, _error(_TOO_LARGE, "tokens", "rate_limit_exceeded"), _TOO_LONG),
    (
        "openai quota",
        429,
        _error(
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
            "insufficient_quota",
        ),
        _QUOTA,
    ),
    ("openai quota as 403", 403, _error("...", "insufficient_quota", "insufficient_quota"), _QUOTA),
    (
        "openai hard limit",
        400,
        _error("Billing hard limit has been reached", "invalid_request_error", "billing_hard_limit_reached"),
        _QUOTA,
    ),
    (
        "openai inactive",
        429,
        _error(
            "Your account is not active, please check your billing details on our website.",
            "billing_not_active",
            "billing_not_active",
        ),
        _QUOTA,
    ),
    ("openai key", 401, _error("Incorrect API key provided: sk-x.", "invalid_request_error", "invalid_api_key"), _AUTH),
    ("openai no key", 401, _error("You didn't provide an API key.", "invalid_request_error"), _AUTH),
    (
        "openai region",
        403,
        _error(
            "Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"
        ),
        _AUTH,
    ),
    (
        "openai model",
        404,
        _error(
            "The model `x` does not exist or you do not have access to it.", "invalid_request_error", "model_not_found"
        ),
        _MODEL,
    ),
    (
        "openai project",
        403,
        _error("Project `p` does not have access to model `x`", "invalid_request_error", "model_not_found"),
        _MODEL,
    ),
    (
        "openai prompt",
        400,
        _error(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
            "invalid_request_error",
            "invalid_prompt",
        ),
        _FILTER,
    ),
    (
        "openai parameter",
        400,
        _error(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            "invalid_request_error",
            "unsupported_parameter",
            "max_tokens",
        ),
        _REFUSED,
    ),
    ("openai engine", 503, _error("The engine is currently overloaded, please try again later", "server_error"), _BUSY),
    ("openai server", 500, _error("The server had an error while processing your request.", "server_error"), _BAD),
    (
        "azure filter",
        400,
        {
            "error": {
                "message": "The response was filtered due to Azure OpenAI's content management policy.",
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
        _FILTER,
    ),
    (
        "azure rate",
        429,
        _error(
            "Requests to the ChatCompletions_Create Operation have exceeded token rate limit of your "
            "current OpenAI S0 pricing tier. Please retry after 20 seconds.",
            code="429",
        ),
        _RATE,
    ),
    (
        "azure deployment",
        404,
        _error("The API deployment for this resource does not exist.", code="DeploymentNotFound"),
        _MODEL,
    ),
    ("azure address", 404, _error("Resource not found", code="404"), _REFUSED),
    (
        "azure key",
        401,
        _error("Access denied due to invalid subscription key or wrong API endpoint.", code="401"),
        _AUTH,
    ),
    (
        "anthropic rate",
        429,
        _anthropic(
            "rate_limit_error",
            "This request would exceed your organization's rate limit of "
            "40,000 input tokens per minute. The prompt length counts.",
        ),
        _RATE,
    ),
    ("anthropic busy", 529, _anthropic("overloaded_error", "Overloaded"), _BUSY),
    ("anthropic busy as 500", 500, _anthropic("overloaded_error", "Overloaded"), _BUSY),
    ("anthropic key", 401, _anthropic("authentication_error", "invalid x-api-key"), _AUTH),
    ("anthropic right", 403, _anthropic("permission_error", "Your API key may not use this."), _AUTH),
    ("anthropic model", 404, _anthropic("not_found_error", "model: claude-none"), _MODEL),
    ("anthropic large", 413, _anthropic("request_too_large", "Request exceeds the maximum size"), _TOO_LONG),
    (
        "anthropic context",
        400,
        _anthropic("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        _TOO_LONG,
    ),
    (
        "anthropic limit",
        400,
        _anthropic(
            "invalid_request_error", "input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000"
        ),
        _TOO_LONG,
    ),
    (
        "anthropic credit",
        400,
        _anthropic(
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
        ),
        _QUOTA,
    ),
    (
        "anthropic usage",
        400,
        _anthropic("invalid_request_error", "You have reached your specified API usage limits."),
        _QUOTA,
    ),
    ("anthropic bill", 402, _anthropic("billing_error", "There's an issue with your billing"), _QUOTA),
    (
        "anthropic filter",
        400,
        _anthropic("invalid_request_error", "Output blocked by content filtering policy"),
        _FILTER,
    ),
    (
        "anthropic shape",
        400,
        _anthropic("invalid_request_error", "messages: text content blocks must be non-empty"),
        _REFUSED,
    ),
    ("gemini minute", 429, _quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"), _RATE),
    ("gemini day", 429, _quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), _QUOTA),
    (
        "gemini key",
        400,
        _google(
            400,
            "API key not valid. Please pass a valid API key.",
            "INVALID_ARGUMENT",
            {"@type": "x", "reason": "API_KEY_INVALID"},
        ),
        _AUTH,
    ),
    (
        "gemini region",
        400,
        _google(400, "User location is not supported for the API use.", "FAILED_PRECONDITION"),
        _AUTH,
    ),
    ("gemini right", 403, _google(403, "Generative Language API has not been used", "PERMISSION_DENIED"), _AUTH),
    ("gemini model", 404, _google(404, _OUR_GEMINI, "NOT_FOUND"), _MODEL),
    ("gemini busy", 503, _google(503, "The model is overloaded. Please try again later.", "UNAVAILABLE"), _BUSY),
    ("gemini late", 504, _google(504, "Deadline expired", "DEADLINE_EXCEEDED"), _TIMEOUT),
    (
        "gemini context",
        400,
        _google(
            400,
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            "INVALID_ARGUMENT",
        ),
        _TOO_LONG,
    ),
    ("gemini as openai", 400, [_google(400, "Invalid value at 'temperature'", "INVALID_ARGUMENT")], _REFUSED),
    ("gemini within", 500, _error(_NESTED, code=500), _RATE),
    (
        "mistral extra",
        422,
        {
            "object": "error",
            "message": {"detail": _extra("stream_options")},
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        },
        _REFUSED,
    ),
    (
        "mistral proxy",
        422,
        {
            "object": "error",
            "message": orjson.dumps({"detail": _extra("n")}).decode(),
            "type": "internal_error_proxy",
            "param": None,
            "code": "1000",
        },
        _REFUSED,
    ),
    (
        "mistral empty",
        400,
        {
            "object": "error",
            "message": "Assistant message must have either content or tool_calls",
            "type": "invalid_request_message_order",
            "code": "3240",
        },
        _REFUSED,
    ),
    (
        "mistral model",
        400,
        {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"},
        _MODEL,
    ),
    (
        "mistral rate",
        429,
        {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited", "code": "1300"},
        _RATE,
    ),
    (
        "mistral capacity",
        429,
        {
            "object": "error",
            "message": "Service tier capacity exceeded for this model.",
            "type": "service_tier_capacity_exceeded",
            "code": "3505",
        },
        _BUSY,
    ),
    (
        "mistral context",
        400,
        {
            "object": "error",
            "message": "Prompt contains 40000 tokens and 0 draft tokens, too large "
            "for model with 32768 maximum context length",
            "code": "3051",
        },
        _TOO_LONG,
    ),
    ("mistral key", 401, {"message": "Unauthorized", "request_id": "x"}, _AUTH),
    (
        "vllm context",
        400,
        {"object": "error", "message": _MAXIMUM, "type": "BadRequestError", "param": None, "code": 400},
        _TOO_LONG,
    ),
    (
        "vllm model",
        404,
        {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404},
        _MODEL,
    ),
    (
        "vllm limit",
        400,
        _error(
            "'max_tokens' or 'max_completion_tokens' is too large: 5000. This model's maximum context "
            "length is 4096 tokens.",
            "BadRequestError",
            400,
        ),
        _TOO_LONG,
    ),
    (
        "sglang context",
        400,
        {
            "object": "error",
            "message": "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
            "type": "BadRequestError",
            "code": 400,
        },
        _TOO_LONG,
    ),
    (
        "llama.cpp context",
        400,
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size",
                "type": "exceed_context_size_error",
            }
        },
        _TOO_LONG,
    ),
    (
        "llama.cpp context as 500",
        500,
        {"error": {"code": 500, "message": "the context length is exceeded", "type": "server_error"}},
        _TOO_LONG,
    ),
    (
        "llama.cpp loading",
        503,
        {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
        _BUSY,
    ),
    (
        "llama.cpp key",
        401,
        {"error": {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}},
        _AUTH,
    ),
    ("ollama model", 404, _error('model "x" not found, try pulling it first', "api_error"), _MODEL),
    ("ollama native", 404, {"error": "model 'x' not found"}, _MODEL),
    ("ollama busy", 503, {"error": "server busy, please try again.  maximum pending requests exceeded"}, _BUSY),
    (
        "tgi context",
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: "
            "5000 `inputs` tokens and 20 `max_new_tokens`",
            "error_type": "validation",
        },
        _TOO_LONG,
    ),
    ("tgi busy", 429, {"error": "Model is overloaded", "error_type": "overloaded"}, _BUSY),
    ("tgi failed", 424, {"error": "Request failed during generation: CUDA", "error_type": "generation"}, _BAD),
    ("hugging face loading", 503, {"error": "Model x is currently loading", "estimated_time": 20.0}, _BUSY),
    ("litellm context", 400, _error("litellm.ContextWindowExceededError: too much", None, "400"), _TOO_LONG),
    ("litellm rate", 429, _error("litellm.RateLimitError: ...", "throttling_error", "429"), _RATE),
    (
        "litellm budget",
        400,
        _error("Budget has been exceeded! Current cost: 20, Max budget: 10", "budget_exceeded", "400"),
        _QUOTA,
    ),
    (
        "litellm model",
        400,
        _error("/chat/completions: Invalid model name passed in model=x. Call `/v1/models`.", "None", "400", "None"),
        _MODEL,
    ),
    ("litellm filter", 400, _error("litellm.ContentPolicyViolationError: no", None, "400"), _FILTER),
    ("groq too large", 413, _error(_TOO_LARGE, "tokens", "rate_limit_exceeded"), _TOO_LONG),
    (
        "groq gone",
        400,
        _error(
            "The model `x` has been decommissioned and is no longer supported.",
            "invalid_request_error",
            "model_decommissioned",
        ),
        _MODEL,
    ),
    ("groq flex", 498, _error("Flex tier capacity exceeded", "invalid_request_error", "capacity_exceeded"), _BUSY),
    (
        "together credit",
        402,
        _error("Credit limit exceeded. Please add credit or upgrade your plan.", "credit_limit"),
        _QUOTA,
    ),
    (
        "together model",
        404,
        _error(
            "Unable to access model x. Please see the list of supported models.",
            "invalid_request_error",
            "model_not_available",
        ),
        _MODEL,
    ),
    (
        "together context",
        422,
        _error("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097.", "invalid_request_error"),
        _TOO_LONG,
    ),
    (
        "openrouter credit",
        402,
        {"error": {"code": 402, "message": "This request requires more credits, or fewer max_tokens."}},
        _QUOTA,
    ),
    ("openrouter model", 400, {"error": {"code": 400, "message": "x is not a valid model ID"}}, _MODEL),
    ("openrouter none", 404, {"error": {"code": 404, "message": "No endpoints found for x."}}, _MODEL),
    (
        "openrouter filter",
        403,
        {
            "error": {
                "code": 403,
                "message": "x requires moderation. Your input was flagged.",
                "metadata": {"reasons": ["violence"], "flagged_input": "rate limit"},
            }
        },
        _FILTER,
    ),
    (
        "openrouter raw",
        429,
        {
            "error": {
                "code": 429,
                "message": "Provider returned error",
                "metadata": {
                    "raw": "x is temporarily rate-limited upstream. Please retry shortly.",
                    "provider_name": "y",
                },
            }
        },
        _RATE,
    ),
    (
        "openrouter within",
        400,
        {
            "error": {
                "code": 400,
                "message": "Provider returned error",
                "metadata": {"raw": orjson.dumps(_error(_MAXIMUM)).decode()},
            }
        },
        _TOO_LONG,
    ),
    ("deepseek balance", 402, _error("Insufficient Balance", "unknown_error", "invalid_request_error"), _QUOTA),
    ("deepseek balance as 400", 400, _error("Insufficient Balance", "unknown_error", "invalid_request_error"), _QUOTA),
    ("deepseek model", 400, _error("Model Not Exist", "invalid_request_error", "invalid_request_error"), _MODEL),
    ("deepseek filter", 400, _error("Content Exists Risk", "invalid_request_error", "invalid_request_error"), _FILTER),
    (
        "deepseek shape",
        422,
        _error("Failed to deserialize the JSON body into the target type", "invalid_request_error"),
        _REFUSED,
    ),
    ("cohere key", 401, {"message": "invalid api token"}, _AUTH),
    (
        "cohere context",
        400,
        {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081"},
        _TOO_LONG,
    ),
    ("cohere trial", 429, {"message": "You are using a Trial key, which is limited to 10 API calls / minute."}, _RATE),
    ("cohere model", 404, {"message": "model 'x' not found, make sure the correct model ID was used"}, _MODEL),
    ("bedrock rate", 429, {"message": "Too many tokens, please wait before trying again."}, _RATE),
    ("bedrock context", 400, {"message": "Input is too long for requested model."}, _TOO_LONG),
    (
        "xai credit",
        429,
        {
            "code": "Some resource has been exhausted",
            "error": "Your team x has either used all available credits or reached its monthly spending limit.",
        },
        _QUOTA,
    ),
    ("xai credit as 403", 403, {"code": "permission-denied", "error": "You have run out of credits"}, _QUOTA),
    (
        "xai key",
        400,
        {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***"},
        _AUTH,
    ),
    (
        "xai context",
        400,
        {"error": "This model's maximum prompt length is 131072 but the request contains 200000 tokens."},
        _TOO_LONG,
    ),
    (
        "qwen filter",
        400,
        _error("Output data may contain inappropriate content.", code="data_inspection_failed"),
        _FILTER,
    ),
    (
        "qwen account",
        400,
        _error("Access denied, please make sure your account is in good standing.", code="Arrearage"),
        _QUOTA,
    ),
    (
        "moonshot context",
        400,
        _error("Invalid request: Your request exceeded model token limit: 8192", "invalid_request_error"),
        _TOO_LONG,
    ),
    (
        "moonshot quota",
        429,
        _error("Your account is suspended, please check your plan and billing details", "exceeded_current_quota_error"),
        _QUOTA,
    ),
    ("moonshot busy", 429, _error("The engine is currently overloaded", "engine_overloaded_error"), _BUSY),
    (
        "fireworks account",
        412,
        _error("Account x is suspended, possibly due to reaching the monthly spending limit"),
        _QUOTA,
    ),
    (
        "lm studio context",
        400,
        {
            "error": "Trying to keep the first 5000 tokens when context the overflows. However, the "
            "model is loaded with context length of only 4096 tokens"
        },
        _TOO_LONG,
    ),
    ("a rate limit as 400", 400, _error("Too many requests, slow down"), _RATE),
    ("a busy model as 400", 400, _error("The model is overloaded"), _BUSY),
    ("a filter as 403", 403, _error("This violates our content policy"), _FILTER),
    (
        "groq spend limit",
        400,
        _error("Your organization has reached its spend limit", code="blocked_api_access"),
        _QUOTA,
    ),
    ("azure volume", 403, {"message": "Out of call volume quota. Quota will be replenished in 12 days."}, _QUOTA),
    ("xai no credits", 403, {"error": "Your team doesn't have any credits yet. You can purchase credits."}, _QUOTA),
    (
        "litellm no model",
        400,
        _error(
            "{'error': '/chat/completions: Invalid model name passed in model=foo. Call `/v1/models`.'}", code="400"
        ),
        _MODEL,
    ),
    (
        "zhipu filter",
        400,
        _error("The input contains potentially unsafe or sensitive content", code="1301"),
        _FILTER,
    ),
    ("llama.cpp image", 500, _error("image input is not supported - hint: you may need the mmproj"), _NO_PART),
    ("vllm image", 400, _error("phi is not a multimodal model", "BadRequestError", 400), _NO_PART),
    ("openrouter image", 404, _error("No endpoints found that support image input", code=404), _NO_PART),
    ("openai image", 400, _error("Invalid content type. image_url is only supported by certain models."), _NO_PART),
    ("ollama tools", 400, _error("registry.ollama.ai/library/phi does not support tools", "api_error"), _NO_OPTION),
    ("openrouter tools", 404, _error("No endpoints found that support tool use.", code=404), _NO_OPTION),
    (
        "vllm tools",
        400,
        _error('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        _NO_OPTION,
    ),
    ("a method that is not there", 405, "<html>405</html>", _REFUSED),
    ("a type that is not taken", 415, "<html>415</html>", _REFUSED),
    ("a body that broke off", 400, '{"error": {"message": "x', _REFUSED),
    ("plain text", 429, "slow down", _RATE),
    ("plain text that says more", 400, "context length exceeded", _TOO_LONG),
]


@pytest.mark.parametrize(("status", "body", "code"), [wire[1:] for wire in WIRES], ids=[wire[0] for wire in WIRES])
def test_what_a_server_says_goes_before_its_status(status: int, body: object, code: ErrorCode) -> None:
    """Each server's own way of saying what is wrong is one code of the closed list."""
    encoded = body.encode() if isinstance(body, str) else orjson.dumps(body)

    assert code == refused(status, {}, encoded).code


_DICTS = [wire for wire in WIRES if wire[3] not in (_REFUSED, _BAD, _AUTH, _RATE, _QUOTA, _TIMEOUT) and wire[2]]


@pytest.mark.parametrize(("body", "code"), [wire[2:] for wire in _DICTS], ids=[wire[0] for wire in _DICTS])
def test_an_error_is_the_same_inside_of_an_answer(body: object, code: ErrorCode) -> None:
    """What needs no status to be understood is understood without one."""
    assert code == stated(body).code


@pytest.mark.parametrize("quote", "'\"`")
@pytest.mark.parametrize("ending", ["{0} is no value.", "{0}", ""])
def test_what_was_sent_is_not_taken_for_what_is_wrong_with_it(quote: str, ending: str) -> None:
    """A prompt that a server repeats in quotes, cut or whole, says nothing about the account or the model."""
    repeated = f"Invalid content: {quote}rate limit, insufficient_quota, overloaded" + ending.format(quote)

    assert (
        ErrorCode.REFUSED_BY_PROVIDER == refused(400, {}, orjson.dumps(_error(repeated, "invalid_request_error"))).code
    )
