"""Wires the gateway's parts together; no other module does."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from gateway.accept import Acceptance
from gateway.bulk import Bulk
from gateway.deletion import Deletion
from gateway.disconnects import Disconnects
from gateway.drain import Drain
from gateway.erasing import Erasing
from gateway.files import Files
from gateway.following.events import Hub
from gateway.following.lookup import Lookup
from gateway.following.stream import Streams
from gateway.following.tail import Tail, open_consumer
from gateway.following.waiting import EndingWaiter
from gateway.following.watch import Watch
from gateway.health import Health
from gateway.http import openapi
from gateway.http.body_room import BodyRoom
from gateway.http.problems import Problems
from gateway.http.route import Routing
from gateway.large_bodies import LargeBodies
from gateway.limits import Limits
from gateway.metrics import Metrics
from gateway.openai.calls import Calls
from gateway.openai.chat import ChatCompletions
from gateway.openai.conversations import ConversationItems
from gateway.openai.errors import OpenAIErrors
from gateway.openai.models import ModelRoutes
from gateway.openai.paths import under_prefix_too
from gateway.openai.responses import Responses
from gateway.owner_turns import OwnerTurns
from gateway.people.attempts import Attempts
from gateway.people.callers import Callers
from gateway.people.passwords import Passwords
from gateway.people.tokens import Tokens
from gateway.pulse import Pulse
from gateway.quotas import Quotas, quota_of_owner, quota_of_tenant
from gateway.replays import Replays
from gateway.request_log import RequestLog
from gateway.retries import Retries
from gateway.routes import agents as agent_routes
from gateway.routes import console as console_routes
from gateway.routes import docs as docs_routes
from gateway.routes import health as health_routes
from gateway.routes.audit import Audit
from gateway.routes.bulk import BulkRoutes
from gateway.routes.controls import Controls
from gateway.routes.conversations import Conversations
from gateway.routes.dead_letters import DeadLetters
from gateway.routes.erasures import Erasures
from gateway.routes.files import FileRoutes
from gateway.routes.keys import Keys
from gateway.routes.messages import Messages
from gateway.routes.queue import QueueRoutes
from gateway.routes.requests import Requests
from gateway.routes.session import SessionRoutes
from gateway.routes.sign_in import SignIn
from gateway.routes.steering import SteeringRoutes
from gateway.routes.tasks import Tasks
from gateway.routes.topics import TopicRoutes
from gateway.routes.users import Users
from gateway.settings import GatewaySettings
from gateway.steering import Steering
from gateway.submit import Submissions
from gateway.tasks import TaskService
from gateway.timings import TIMINGS, Timings
from gateway.topics import Topics
from orchestra.agents.catalogue import load_agents
from orchestra.files.opening import open_home
from orchestra.http.guard import OpenModeGuard
from orchestra.http.hot_routes import HotApp
from orchestra.incoming import Judge
from orchestra.kafka.clients import open_browser, open_producer
from orchestra.loops import beside, keep_running
from orchestra.receipts import Receipts
from orchestra.signing import EventSigner
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.version import version

_CLIENT_ID = "orchestra-gateway"
# Records that one owner may have on their way to Kafka; more would only delay other owners' calls (decision 0024).
_ACCEPTED_AT_ONCE = 8
# How long such an owner rests between groups of calls while others call too, as a multiple of what the first call took:
# a busy machine makes calls slower, and rests longer. Chosen by measurement (decision 0024).
_REST = 64.0
# Lists and counts of one owner that may wait behind those that run.
_LISTS_WAITING = 60
_LIST_SECONDS = 30.0
# CORS: the methods and request headers that pages of CORS_ORIGINS may send beyond the safelisted ones, and the response
# headers that they may read.
_STAINLESS = "arch async helper-method lang os package-version retry-count runtime runtime-version timeout".split()
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_HEADERS = (
    *("Authorization", "Idempotency-Key", "Last-Event-ID", "Prefer", "Range", "traceparent", "X-User-ID"),
    # What OpenAI's JavaScript library sends beyond that.
    *("OpenAI-Organization", "OpenAI-Project", "OpenAI-Beta"),
    *(f"x-stainless-{name}" for name in _STAINLESS),
)
_EXPOSED = (
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Link",
    "Location",
    "Preference-Applied",
    "Retry-After",
    "x-request-id",
    "x-should-retry",
)


def create_app(
    settings: GatewaySettings,
    *,
    drain: Drain | None = None,
    metrics: Metrics | None = None,
    database: Database | None = None,
    producer: Callable[[], AbstractAsyncContextManager[AIOKafkaProducer]] | None = None,
    consumer: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    browser: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
    timings: Timings = TIMINGS,
) -> FastAPI:
    """The gateway as an ASGI app. It starts at once; `/readyz` reports when Kafka and Postgres are reachable."""
    drain, metrics, agents = drain or Drain(), metrics or Metrics(), load_agents(settings)
    database = database or Database.connect(settings, _CLIENT_ID)
    receipts = Receipts(settings.secrets)
    hub = Hub(metrics, settings.event_memory_bytes, EventSigner(settings.secrets))
    drain.on_begin(hub.wake_all)
    tail = Tail(consumer or partial(open_consumer, settings), hub, metrics)
    records = RequestLog(
        producer or partial(open_producer, settings, _CLIENT_ID),
        metrics,
        timeout=settings.accept_timeout_seconds,
        max_pending=settings.max_pending_sends,
    )
    # Without credentials all callers are one owner, so there is nothing to share.
    asks = settings.asks_credentials
    turns = OwnerTurns(
        _ACCEPTED_AT_ONCE if asks else None,
        max_waiting=settings.max_pending_sends,
        max_seconds=settings.accept_timeout_seconds,
        rest=_REST,
    )
    erasing = Erasing(settings.secrets)
    kept = Files(database, open_home(settings), settings, erasing, timings)
    room = BodyRoom(settings.max_large_body_bytes, shared=asks) if settings.files_url else None
    large = LargeBodies(database, kept, room) if room else None
    acceptance = Acceptance(records, database, settings.secrets, metrics, turns, large)
    quotas = Quotas(quota_of_owner(settings), quota_of_tenant(settings)) if asks else None
    limits = Limits(
        database,
        metrics,
        quotas,
        erasing,
        max_age=settings.max_queue_age_seconds,
        max_turns=settings.max_open_turns,
        timings=timings,
    )
    deletion, lookup = Deletion(database, acceptance, hub), Lookup(database, receipts)
    submissions = Submissions(
        receipts, acceptance, limits, agents, lookup, hub, drain, timings, media_urls=settings.allow_media_urls
    )
    judge = Judge(settings.secrets, media_urls=settings.allow_media_urls)
    task_service = TaskService(
        database,
        submissions,
        acceptance,
        deletion,
        lookup,
        hub,
        settings.context_default,
        settings.priority_limit,
        timings,
        large,
    )
    bulk = Bulk(database, submissions, drain, timings)
    retries = Retries(database, submissions, settings.priority_limit, large)
    steering = Steering(database, submissions, acceptance, bulk, lookup, hub, limits, retries, settings.priority_limit)
    topics = Topics(browser or partial(open_browser, settings, _CLIENT_ID), database, metrics, timings)
    pulse = Pulse(database, topics, drain, metrics, settings.max_streams_by_owner if asks else None, timings)
    drain.on_begin(pulse.wake)
    waiting = EndingWaiter(lookup, drain, metrics)
    streams = Streams(hub, lookup, drain, metrics, settings.max_streams_by_owner if asks else None, timings)
    disconnects = Disconnects(acceptance, drain, metrics, timings)
    calls = Calls(settings, submissions, waiting, disconnects, database)
    tokens, passwords = Tokens(settings.secrets), Passwords()
    callers = Callers(database, tokens, asks=asks, timings=timings)
    health = Health(records, limits, tail, drain, database, kept, open_mode=not asks, timings=timings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            async with beside(
                keep_running(records.run, "request_log_failed"),
                keep_running(tail.run, "tail_failed"),
                keep_running(Watch(hub, database).run, "watch_failed"),
                keep_running(limits.run, "limits_failed"),
                keep_running(callers.run, "callers_failed"),
                keep_running(kept.run, "files_failed"),
                keep_running(pulse.run, "pulse_failed"),
                keep_running(topics.run, "topics_failed"),
                keep_running(health.run, "health_failed"),
                keep_running(health.look_for_standstills, "standstills_failed"),
            ):
                try:
                    yield
                finally:
                    drain.begin()
                    await disconnects.close()
                    await records.close()
        finally:
            with suppress(DatabaseUnavailableError):
                await callers.note_used()
            await database.close()

    app = HotApp(
        call_ids=True,
        title="LLM Orchestra",
        description="A durable queue in front of language models. An accepted message is answered once, in order.",
        version=version(),
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    errors = OpenAIErrors()
    problems = Problems(metrics, errors)
    problems.install(app)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.origins, allow_methods=_METHODS, allow_headers=_HEADERS,
            expose_headers=_EXPOSED,
        )  # fmt: skip
    if not asks:
        app.add_middleware(OpenModeGuard, hosts=settings.hosts, origins=settings.origins, answer=problems.answer)
    attempts = Attempts()
    lists = OwnerTurns(
        settings.max_lists_by_owner if asks else None, max_waiting=_LISTS_WAITING, max_seconds=_LIST_SECONDS
    )
    routing = Routing(callers, drain, lists, settings.max_body_bytes, room, errors)
    tasks = Tasks(database, task_service)
    for tag, routes in (
        ("messages", Messages(settings, submissions, hub, waiting, streams, disconnects).routes()),
        ("messages", BulkRoutes(settings, submissions, bulk).routes()),
        ("requests", SteeringRoutes(steering).routes()),
        ("requests", Requests(database, lookup, hub, waiting, streams).routes()),
        ("conversations", Conversations(database, deletion, limits, streams, timings).routes()),
        ("tasks", tasks.routes()),
        ("tasks (v0)", tasks.routes_of_v0()),
        ("dead letters", DeadLetters(database, Replays(database, acceptance, judge)).routes()),
        ("operations", QueueRoutes(database, pulse).routes()),
        ("operations", TopicRoutes(database, topics).routes()),
        ("operations", Controls(database, limits).routes()),
        ("operations", Audit(database).routes()),
        ("OpenAI's API", ChatCompletions(calls, hub, streams, settings.llm_model).routes()),
        ("OpenAI's API", ModelRoutes(limits, agents).routes()),
        ("files", under_prefix_too(FileRoutes(database, kept).routes())),
        (
            "OpenAI's API",
            Responses(
                settings, calls, acceptance, deletion, lookup, hub, waiting, streams, database, receipts, large, timings
            ).routes(),
        ),
        (
            "OpenAI's API",
            ConversationItems(database, deletion, limits, media_urls=settings.allow_media_urls).routes(),
        ),
        ("agents", agent_routes.routes(agents)),
        ("users", Users(database, callers, passwords, attempts).routes()),
        ("users", Erasures(database, callers, erasing, settings.secrets).routes()),
        ("keys", Keys(database, callers).routes()),
    ):
        app.include_router(routing.router(tag, routes))
    sign_in = SignIn(database, passwords, attempts, tokens)
    app.include_router(sign_in.router())
    sessions = SessionRoutes(database, callers, sign_in, attempts, tokens, asks=asks, timings=timings)
    app.include_router(sessions.router())
    app.include_router(health_routes.build_router(health, metrics))
    app.include_router(docs_routes.build_router())
    app.include_router(console_routes.build_router())
    openapi.install(app, asks_credentials=asks)
    return app
