"""What fields mean that more than one schema has: described once, with an example."""

from schemas.json_schema import described

A_REQUEST = "7b1f0c52-6d4e-8a30-9c11-2f8e4b6a9d01"
A_CONVERSATION = "3f9d2c74-51aa-4e0b-b0f7-8c6d1e2a4b90"
A_MESSAGE = {"role": "user", "content": "What is a log?"}
AN_ERASURE = "4c1e8f60-2a7d-4b1b-9c55-60d3a9e7b214"
A_USER = "0d9c6a1e-3b52-4f0a-9a77-51c2b8e4d3f6"

ERASURE_ID = described("The erasure's id.", AN_ERASURE)
REQUEST_ID = described("The request's id, by which its status and its reply can be fetched.", A_REQUEST)
CONVERSATION_ID = described("The conversation that the request belongs to.", A_CONVERSATION)
RETRY_OF = described("The request that this one retries.", A_REQUEST)

MODEL = described("Name or alias of the model; null: the default model.", "llama3")
AGENT = described("Name of the agent, a preset that answers the request.", "analyst")
TASK_TYPE = described("Name of the agent that answers the task; null if the request is not a task.", "analyst")
PRIORITY = described("0 to 9; higher runs first. Null: 5.", 7)
SHOWN_PRIORITY = described("0 to 9; higher runs first.", 7)
DEADLINE = described(
    "The request expires if it has not been answered by this time: at most 7 days ahead, by default 1 hour. "
    "UTC if it has no zone.",
    "2026-01-31T12:00:00Z",
)
NOT_BEFORE = described(
    "The request does not start before this time, at most 7 days ahead. Later requests of its conversation wait, too. "
    "UTC if it has no zone.",
    "2026-01-31T11:00:00Z",
)
ON_BUSY = described(
    "What to do if the conversation has open requests: `enqueue` behind them (default), `reject` this one, or "
    "`interrupt`, which cancels them.",
    "enqueue",
)
ON_DISCONNECT = described(
    "What to do if the client closes the connection before the reply is complete, while this call waits for it or "
    "streams it: `continue` (default) or `cancel` the request.",
    "continue",
)
METADATA = described(
    "Up to 16 key-value pairs of the client's own, returned with the reply. Keys have up to 64 characters, values up "
    "to 512.",
    {"order": "7"},
)

DOOR = described(
    "The OpenAI-compatible API that the request was sent through: `chat` (chat completions) or `responses`; absent for "
    "other requests.",
    "chat",
)
STORE = described(
    "False: the request and its answer are deleted about 10 minutes after it has ended, and no other request can refer "
    "to it.",
    False,
)
STORE_FROM = described(
    "Index in `messages` of the first one to store in the conversation. Only messages after the last assistant message "
    "are stored. Without it, these are the results of tools and the last user message.",
    1,
)
ASKED = described(
    "Parameters that the OpenAI-compatible API returns with the answer. Workers read only `truncation`.",
    {"instructions": "Answer in one sentence."},
)

STATUS = described("State of the request. `completed`, `failed`, `cancelled` and `expired` are final.", "completed")
REPLY = described("The text of the answer; null unless `status` is `completed`.", "Hello world")
USAGE = described("Tokens used by the attempt that answered; null until then.")
FINISH_REASON = described(
    "Why the answer ended: `stop` when it is complete, `length` when it was cut off at the token limit, `tool_calls` "
    "when the model waits for the results of tools; null while not known. `content_filter` is reserved: an answer that "
    "the provider filtered fails with the error of that name.",
    "stop",
)
ERROR = described("Why the request failed; null unless `status` is `failed`.")
LAST_ERROR = described("Why the latest attempt failed. Set while the request is open, and kept if it expires.")
CANCEL_REQUESTED = described("True once a cancel was accepted, even if the request ended before it took effect.", False)
ATTEMPTS = described("Number of attempts so far, including those on a fallback model.", 1)
ATTEMPT = described("Number of the attempt. It never decreases: discard events of an earlier attempt.", 1)

CREATED_AT = described("When it was stored, usually a moment after it was accepted.", "2026-01-31T11:59:58.123456Z")
STARTED_AT = described("When a worker started the first attempt; null until then.", "2026-01-31T11:59:58.234567Z")
FINISHED_AT = described("When it ended; null until then.", "2026-01-31T11:59:59.345678Z")

CODE = described("Stable error code; docs/reference/errors.md lists them.", "timeout")
DETAIL = described("One sentence for people. It never repeats what was sent.", "The model did not answer in time")

LIMIT = described("Maximum number of items on the page.", 20)
CURSOR = described("`next` of the previous page; absent for the first page.", "WzE3Njk4NjA3OTgsImEiXQ")
CREATED_AFTER = described("Only those created at this time or later. UTC if it has no zone.", "2026-01-30T00:00:00Z")
CREATED_BEFORE = described("Only those created before this time. UTC if it has no zone.", "2026-01-31T00:00:00Z")
