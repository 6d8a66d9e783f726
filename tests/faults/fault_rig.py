"""A trainer in this process, over an engine without torch, and a client that knows only the proxy before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import double_engine
from fault_kinds import FAULTS
from fault_proxy import FaultProxy, Plan

from loops_sdk import AdamParams, Datum, OperationFuture, TrainingClient
from loops_sdk._net.caller import Patience
from loops_sdk._wire.retrying import Backoff
from loops_sdk.instrumentation import Event
from loops_sdk.local.serving import Server
from loops_sdk.local.storage import RunRecord, Storage
from loops_sdk.local.trainer import Trainer

KEY = "the-key"
RUN = RunRecord("run7", "session", "a run", "double/model", datetime(2026, 1, 1, tzinfo=UTC), lora_rank=4)
#: Pauses of a hundredth: the same decisions, without the waiting.
QUICK = Backoff(first=0.005, cap=0.2)
#: What the line at the end of a session says.
figures: Counter[str] = Counter()


@attrs.frozen
class Behind:
    """A trainer's engine, the proxy before it, a client behind the proxy, and what the client told its observer."""

    engine: double_engine.Trainer
    proxy: FaultProxy
    client: TrainingClient
    events: list[Event]


def quicken(client: TrainingClient) -> TrainingClient:
    """Shorter pauses and attempts, so that a response can come too late within a test's patience."""
    client._network.caller._backoff = QUICK
    client._channel._source.polling.backoff = QUICK
    client._channel._patience = Patience(total=120.0, each=1.5, attempts=30)
    return client


async def submit(client: TrainingClient, calls: Sequence[list[int] | float]) -> list[OperationFuture[Any]]:
    """All calls one after another: a `forward_backward` of these tokens, or an `optim_step` at this learning rate."""
    return [
        await client.optim_step_async(AdamParams(learning_rate=call))
        if isinstance(call, float)
        else await client.forward_backward_async([Datum(call[:-1], {"target_tokens": call[1:]})])
        for call in calls
    ]


@asynccontextmanager
async def trainer_behind(
    folder: Path,
    faults: Sequence[str] = (),
    *,
    rate: float = 0.2,
    seed: int = 0,
    only: tuple[str, ...] = (),
    quick: bool = True,
    hold: float = 0.5,
    engine: Callable[[], double_engine.Trainer] = double_engine.Trainer,
    **options: Any,
) -> AsyncIterator[Behind]:
    """Everything up, and down again at the end of the block."""
    storage = Storage.create(folder)
    storage.write_run(RUN)
    made = engine()
    trainer = Trainer(storage, api_key=KEY, hold=hold)
    server = Server(trainer.app)
    async with AsyncExitStack() as opened:
        await server.start()
        opened.push_async_callback(server.aclose)
        await trainer.open(RUN, made)
        plan = Plan(faults, rate=rate, seed=seed, only=only)
        proxy = await opened.enter_async_context(FaultProxy(("127.0.0.1", server.port), plan, FAULTS))
        given = {"api_key": KEY, "run_id": RUN.id, "base_model": "double/model", "lora_rank": 4, **options}
        client = await opened.enter_async_context(TrainingClient(proxy.url, **given))
        events: list[Event] = []
        client._network.caller.emit = _both(client._network.caller.emit, events.append)
        yield Behind(made, proxy, quicken(client) if quick else client, events)
        figures["faults"] += plan.met.total()


def _both(first: Callable[[Event], None], second: Callable[[Event], None]) -> Callable[[Event], None]:
    def emit(event: Event) -> None:
        first(event)
        second(event)

    return emit
