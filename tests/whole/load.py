"""Callers who ask without a pause and keep what they were told, and the books held against that."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import httpx2
from sqlalchemy import select
from sqlmodel import col

from api.db.engine import Database
from api.db.session import tenant_session
from api.ledger import balance
from api.tables import OpenHold, Transfer, UsageRow
from tests.upstream import Reply, Seen, completion, refusal, stream

CHAT = "/v1/chat/completions"
MODEL = "gpt-4o"
LONGEST_ANSWER = 40

# gpt-4o: $2.50 in and $10.00 out per million tokens at 96 credits a dollar.
IN, OUT = 240, 960


def vendor(chance: random.Random) -> Callable[[Seen], Reply]:
    """A vendor whose answers have any length and pace; one in twenty is a refusal."""

    def script(request: Seen) -> Reply:
        tokens = chance.randint(1, LONGEST_ANSWER)
        if chance.random() < 0.05:
            return refusal(500)
        if request.json().get("stream"):
            return stream(tokens, wait=chance.uniform(0, 0.02), gap=chance.uniform(0, 0.004))
        return [chance.uniform(0, 0.05), completion(tokens=tokens)]

    return script


@dataclass
class Callers:
    """Many callers at once of one organization; `told` is what each answer that came to its end cost."""

    headers: dict[str, str]
    chance: random.Random
    told: dict[UUID, int] = field(default_factory=dict)
    streams: int = 0
    then: Callable[[], None] | None = None
    """Done as soon as the next answer has come."""

    async def call_until_cut(self, url: str, number: int) -> None:
        """So many callers ask again and again, each until its connection fails."""
        limits = httpx2.Limits(max_connections=number, max_keepalive_connections=number)
        async with httpx2.AsyncClient(
            base_url=url, headers=self.headers, limits=limits, timeout=20, trust_env=False
        ) as client:
            await asyncio.gather(*(self._call_until_cut(client) for _ in range(number)))

    async def _call_until_cut(self, client: httpx2.AsyncClient) -> None:
        while True:
            try:
                await (self._stream(client) if self.chance.random() < 0.5 else self._whole(client))
            except httpx2.TransportError:
                return

    async def _whole(self, client: httpx2.AsyncClient) -> None:
        answer = await client.post(CHAT, json=_ask())
        if answer.status_code == 200:
            body = answer.json()
            self._tell(body["id"], body["usage"])
        else:
            assert answer.status_code in (502, 503), answer.text

    async def _stream(self, client: httpx2.AsyncClient) -> None:
        ask = _ask() | {"stream": True, "stream_options": {"include_usage": True}}
        async with client.stream("POST", CHAT, json=ask) as answer:
            lines = [line[6:] async for line in answer.aiter_lines() if line.startswith("data: ")]
        if answer.status_code == 200 and lines[-1] == "[DONE]":
            last = json.loads(lines[-2])
            self._tell(last["id"], last["usage"])
            self.streams += 1
        else:
            assert answer.status_code in (502, 503), lines

    def _tell(self, answer_id: str, usage: dict[str, int]) -> None:
        charge = usage["prompt_tokens"] * IN + usage["completion_tokens"] * OUT
        self.told[UUID(answer_id.removeprefix("gen_"))] = charge
        if self.then is not None:
            then, self.then = self.then, None
            then()


def _ask() -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": LONGEST_ANSWER}


async def broken_promises(database: Database, tenant_id: UUID, told: dict[UUID, int]) -> list[str]:
    """What the books do not say as it was told: one usage row and one settlement each, of that charge."""
    async with tenant_session(database, tenant_id) as session:
        usage = list(await session.execute(select(col(UsageRow.id), col(UsageRow.charge))))
        settled = list(
            await session.execute(
                select(col(Transfer.resolves), col(Transfer.amount)).where(col(Transfer.kind) == "settle")
            )
        )
        left = await balance(session)
    broken = []
    for name, rows in (("usage row", usage), ("settlement", settled)):
        times, amounts = Counter(row[0] for row in rows), {row[0]: row[1] for row in rows}
        for answer, charge in told.items():
            if (times[answer], amounts.get(answer)) != (1, charge):
                broken.append(
                    f"{answer} was told to cost {charge}; {times[answer]} {name}s say {amounts.get(answer)}"
                )
    if min(left.total, left.held, left.available) < 0:
        broken.append(f"the wallet is below zero: {left}")
    return broken


async def held_requests(database: Database, tenant_id: UUID) -> int:
    """How many holds are open."""
    async with tenant_session(database, tenant_id) as session:
        return len((await session.execute(select(col(OpenHold.id)))).all())
