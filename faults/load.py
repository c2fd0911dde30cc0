"""The load: conversations over every entrance, with retries, duplicates, impostors, cancels and broken streams.

Half of the questions come by OpenAI's API: as chat completions, each with its whole dialogue; as responses that go on
from earlier ones; and as responses in a conversation.

plan = Plan(conversations=200, turns=5, concurrency=50)
async with open_ledger(path) as ledger, open_load(plan, ["http://127.0.0.1:8080", …], bootstrap, ledger) as load:
    await load.run()                            # closed loop: returns when every conversation is over
    await load.flood(rate=500, seconds=30)      # open loop: refused requests are not sent again
    load.counts                                 # Counter of what happened
    load.stop()                                 # start no further turns; those in progress are followed to their end
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import aiohttp

from faults.client import Direct, Http, product_client
from faults.door import Door
from faults.door_turn import Before, DoorTurn
from faults.ledger import CHAT_WAYS, DOOR_WAYS, RESPONSE_WAYS, Ledger, Way
from faults.question import FAIL, FILE, IMPOSTOR, LARGE, SLOW, TOOL, Question
from faults.turn import Conditions, Turn
from orchestra.client import AsyncClient

_OWN_WAYS: Mapping[Way, float] = {
    "poll": 0.1, "wait": 0.08, "stream": 0.12, "task": 0.05, "kafka": 0.08, "client": 0.07
}  # fmt: skip
_BY_THE_DOOR: Mapping[Way, float] = {
    "chat": 0.08, "chat_stream": 0.12, "response": 0.08, "response_stream": 0.14, "background": 0.08
}  # fmt: skip
_WAYS: Mapping[Way, float] = {**_OWN_WAYS, **_BY_THE_DOOR}
# Of the questions by the door: those that go on from any earlier one, not from the last.
_BRANCHES = 0.2
# The ways that such a question cannot take: a task has a text alone, and a record has its limit.
_OTHER_WAYS: Mapping[str, Sequence[Way]] = {TOOL: ("task",), FILE: ("task",), LARGE: ("task", "kafka")}


@dataclass(frozen=True)
class Plan:
    """What to send. All but the first three and the last four are shares (0 to 1) of turns, or of conversations.

    ``ways``: a conversation keeps to those of one API, or of one route of OpenAI's API.
    ``pipelined``: conversations whose turns do not wait for each other. ``disconnects``: streams that are left at a
    random event. ``slow``, ``failing`` and ``tools``: questions that ask the oracle to be slow, to fail, or to call a
    tool; the result of the call is the conversation's next turn, unless it is pipelined. ``keyless``: plain calls of
    OpenAI's API without an Idempotency-Key. ``files`` and ``large``:
    questions that name an uploaded file, and those whose body exceeds a record. ``patience``: seconds after which a
    turn is abandoned. ``model``: None for the default.
    """

    conversations: int = 100
    turns: int = 5
    concurrency: int = 50
    ways: Mapping[Way, float] = field(default_factory=lambda: _WAYS)
    pipelined: float = 0.2
    duplicates: float = 0.1
    impostors: float = 0.05
    cancels: float = 0.05
    disconnects: float = 0.5
    slow: float = 0.0
    failing: float = 0.0
    tools: float = 0.0
    keyless: float = 0.3
    files: float = 0.0
    large: float = 0.0
    padding: int = 64
    patience: float = 300.0
    model: str | None = None
    seed: int = 0


class Load:
    """Sends what a plan says."""

    def __init__(
        self,
        plan: Plan,
        gateways: Sequence[str],
        http: Http,
        door: Door,
        direct: Direct,
        client: Callable[[], AsyncClient],
        ledger: Ledger,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._stopped = False
        self._conditions = Conditions(
            gateways, http, door, direct, client, ledger, self.counts, self._random, plan.padding, plan.patience,
            plan.model,
        )  # fmt: skip

    def stop(self) -> None:
        """Start no further turns."""
        self._stopped = True

    async def run(self) -> None:
        """Run all conversations, a limited number at a time; return once they are over."""
        free = asyncio.Semaphore(self._plan.concurrency)

        async def one() -> None:
            async with free:
                if not self._stopped:
                    await self._converse()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._plan.conversations):
                tasks.create_task(one())

    async def flood(self, rate: float, seconds: float, note: str = "") -> None:
        """Start ``rate`` new one-turn conversations per second, whatever their outcome; return when all are known.

        ``note``: put into their questions.
        """
        clock = asyncio.get_running_loop().time
        began, sent = clock(), 0
        async with asyncio.TaskGroup() as tasks:
            while not self._stopped and (passed := clock() - began) < seconds:
                while sent < passed * rate:
                    question, by_the_door = Question(uuid4(), 0, uuid4().hex, note), sent % 2
                    turn = (
                        self._door_turn(question, "background", Before())
                        if by_the_door
                        else self._turn(question, "poll")
                    )
                    tasks.create_task(turn.knock())
                    sent += 1
                await asyncio.sleep(0.01)

    async def _converse(self) -> None:
        first = self._way(())
        if first in CHAT_WAYS:
            await self._go_on(CHAT_WAYS)
        elif first not in RESPONSE_WAYS:
            await self._talk(uuid4(), DOOR_WAYS, self._turn)
        elif self._random.random() < 0.5:
            await self._go_on(RESPONSE_WAYS)
        elif conversation := await self._created():
            await self._talk(
                conversation, [way for way in self._plan.ways if way not in RESPONSE_WAYS], self._door_turn
            )
        self.counts["conversations"] += 1

    async def _talk(self, conversation: UUID, none_of: Sequence[Way], make: Callable[..., Turn]) -> None:
        """Questions in one conversation, by all ways but these."""
        plan, chance = self._plan, self._random.random
        pipelined = chance() < plan.pipelined
        # Records of one entrance are ordered; across gateways and producers only acknowledged ones are.
        async with asyncio.TaskGroup() as tasks:
            call: str | None = None
            for ordinal in range(plan.turns):
                if self._stopped:
                    break
                note = "" if call else self._note()
                way = self._way((*none_of, *_OTHER_WAYS.get(note, ("task",) if call else ())))
                key = str(uuid4()) if way == "kafka" else uuid4().hex
                turn = make(Question(conversation, ordinal, key, note), way, result_of=call)
                running = tasks.create_task(turn.run())
                if not pipelined:
                    await running
                    self.counts["results"] += bool(call)
                    call = turn.call
                elif chance() < 0.5:
                    await turn.clear()

    async def _go_on(self, ways: Sequence[Way]) -> None:
        """Questions by the door that each go on from an answer, most of them from the last one."""
        conversation, plan, chance = uuid4(), self._plan, self._random.random
        answered = [Before()]
        for ordinal in range(plan.turns):
            if self._stopped:
                break
            before = self._random.choice(answered) if chance() < _BRANCHES else answered[-1]
            question = Question(conversation, ordinal, uuid4().hex, "" if before.call else self._note())
            turn = self._door_turn(question, self._way([way for way in plan.ways if way not in ways]), before)
            await turn.run()
            self.counts["results"] += bool(before.call)
            if then := turn.then:
                answered.append(then)

    async def _created(self) -> UUID | None:
        """A new conversation, by the door; None if it was stopped before there was one."""
        while not self._stopped:
            if id := await self._conditions.door.create_conversation(self._conditions.gateway()):
                return id
            await asyncio.sleep(self._random.uniform(0.2, 1.0))
        return None

    def _way(self, none_of: Sequence[Way]) -> Way:
        ways = {way: share for way, share in self._plan.ways.items() if way not in none_of}
        return self._random.choices(list(ways), list(ways.values()))[0]

    def _turn(self, question: Question, way: Way, result_of: str | None = None) -> Turn:
        return Turn(self._conditions, question, way, result_of=result_of, **self._chances(question))

    def _door_turn(
        self, question: Question, way: Way, before: Before | None = None, result_of: str | None = None
    ) -> DoorTurn:
        # A file belongs to the key with which it was uploaded.
        may = way in ("chat", "response") and question.note != FILE
        keyless = may and self._random.random() < self._plan.keyless
        chances = self._chances(question)
        return DoorTurn(self._conditions, question, way, before=before, result_of=result_of, keyless=keyless, **chances)

    def _chances(self, question: Question) -> dict[str, Any]:
        plan, chance = self._plan, self._random.random
        impostor = Question(question.conversation, question.ordinal, question.key, IMPOSTOR)
        return {
            "duplicate": chance() < plan.duplicates,
            "impostor": impostor if chance() < plan.impostors else None,
            "cancel": chance() < plan.cancels,
            "disconnect": chance() < plan.disconnects,
        }

    def _note(self) -> str:
        drawn, plan = self._random.random(), self._plan
        for note, share in (
            (SLOW, plan.slow),
            (FAIL, plan.failing),
            (TOOL, plan.tools),
            (FILE, plan.files),
            (LARGE, plan.large),
        ):
            if drawn < share:
                return note
            drawn -= share
        return ""


@asynccontextmanager
async def open_load(
    plan: Plan, gateways: Sequence[str], bootstrap: str, ledger: Ledger, key: str | None = None
) -> AsyncIterator[Load]:
    """A load with its connections. ``key``: the API key for the gateways."""
    direct = Direct(bootstrap)
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    clients: list[AsyncClient] = []

    def client() -> AsyncClient:
        # Made when a question first needs it: only then there is a gateway for sure.
        if not clients:
            clients.append(product_client(gateways, plan.patience, key))
        return clients[0]

    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers=headers) as http:
        try:
            yield Load(plan, gateways, Http(http), Door(http), direct, client, ledger)
        finally:
            await direct.close()
            for each in clients:
                await each.close()
