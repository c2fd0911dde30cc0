"""The load: conversations over every entrance, with retries, duplicates, impostors, cancels and broken streams.

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
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import aiohttp

from faults.client import Direct, Http
from faults.ledger import Ledger, Way
from faults.question import FAIL, IMPOSTOR, SLOW, TOOL, Question
from faults.turn import Conditions, Turn

_WAYS: Mapping[Way, float] = {"poll": 0.25, "wait": 0.2, "stream": 0.3, "task": 0.1, "kafka": 0.15}


@dataclass(frozen=True)
class Plan:
    """What to send. All but the first three and the last four are shares (0 to 1) of turns, or of conversations.

    ``pipelined``: conversations whose turns do not wait for each other. ``disconnects``: streams that are left at a
    random event. ``slow``, ``failing`` and ``tools``: questions that ask the oracle to be slow, to fail, or to call a
    tool; the result of the call is the conversation's next turn, unless it is pipelined. ``patience``: seconds after
    which a turn is abandoned. ``model``: None for the default.
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
    padding: int = 64
    patience: float = 300.0
    model: str | None = None
    seed: int = 0


class Load:
    """Sends what a plan says."""

    def __init__(self, plan: Plan, gateways: Sequence[str], http: Http, direct: Direct, ledger: Ledger) -> None:
        self.counts: Counter[str] = Counter()
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._stopped = False
        self._conditions = Conditions(
            gateways, http, direct, ledger, self.counts, self._random, plan.padding, plan.patience, plan.model
        )

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
                    tasks.create_task(self._turn(Question(uuid4(), 0, uuid4().hex, note), "poll").knock())
                    sent += 1
                await asyncio.sleep(0.01)

    async def _converse(self) -> None:
        conversation, plan, chance = uuid4(), self._plan, self._random.random
        pipelined = chance() < plan.pipelined
        # Records of one entrance are ordered; across gateways and producers only acknowledged ones are.
        async with asyncio.TaskGroup() as tasks:
            call: str | None = None
            for ordinal in range(plan.turns):
                if self._stopped:
                    break
                note = "" if call else self._note()
                way = self._way(any_but_tasks=bool(call) or note == TOOL)
                key = str(uuid4()) if way == "kafka" else uuid4().hex
                turn = self._turn(Question(conversation, ordinal, key, note), way, call)
                running = tasks.create_task(turn.run())
                if not pipelined:
                    await running
                    self.counts["results"] += bool(call)
                    call = turn.call
                elif chance() < 0.5:
                    await turn.clear()
        self.counts["conversations"] += 1

    def _way(self, *, any_but_tasks: bool) -> Way:
        ways = {way: share for way, share in self._plan.ways.items() if way != "task" or not any_but_tasks}
        return self._random.choices(list(ways), list(ways.values()))[0]

    def _turn(self, question: Question, way: Way, result_of: str | None = None) -> Turn:
        plan, chance = self._plan, self._random.random
        return Turn(
            self._conditions,
            question,
            way,
            duplicate=chance() < plan.duplicates,
            impostor=Question(question.conversation, question.ordinal, question.key, IMPOSTOR)
            if chance() < plan.impostors
            else None,
            cancel=chance() < plan.cancels,
            disconnect=chance() < plan.disconnects,
            result_of=result_of,
        )

    def _note(self) -> str:
        drawn, plan = self._random.random(), self._plan
        for note, share in ((SLOW, plan.slow), (FAIL, plan.failing), (TOOL, plan.tools)):
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
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers=headers
    ) as session:
        try:
            yield Load(plan, gateways, Http(session), direct, ledger)
        finally:
            await direct.close()
