"""A trainer that is killed between any two writes, and again while it recovers: nothing lost, nothing twice, the same
weights to the bit.

A pass works through a script of actions as its client sees them. At an instant of the test's choice it photographs the
data directory, which is what a kill at that instant leaves, and goes on to its own end. The next pass starts from the
photograph, and its client goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import double_engine
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loops_sdk._wire import endpoints
from loops_sdk.errors import LoopsError
from loops_sdk.local.operations import Journal, Operations, journal
from loops_sdk.local.storage import Storage
from loops_sdk.local.trainer import Trainer

from .conftest import KEY, RUN, batch

_ENDPOINTS = {one.name: one for one in endpoints.OPERATIONS}


@attrs.frozen
class Submit:
    name: str
    body: dict[str, Any]


Action = Submit | None  # `None`: everything that waits is done


def submits() -> st.SearchStrategy[Action]:
    tokens = st.integers(0, 30)
    names = st.sampled_from(("a", "b"))
    path = f"bt://loops:{RUN.id}/weights/"
    return st.one_of(
        st.none(),
        st.builds(lambda token: Submit("forward_backward", batch(token, token + 1)), tokens),
        st.builds(lambda token: Submit("forward", batch(token, token + 1)), tokens),
        st.builds(
            lambda rate: Submit("optim_step", {"adam_params": {"learning_rate": rate}}), st.sampled_from((0.1, 1.0))
        ),
        st.just(Submit("forward_backward", {**batch(1, 2), "loss_fn_config": {"fail": True}})),
        st.builds(lambda name: Submit("save_state", {"name": name}), names),
        st.builds(lambda name: Submit("save_weights_for_sampler", {"name": name}), names),
        st.builds(lambda name: Submit("load_state", {"path": path + name}), names),
        st.builds(lambda name: Submit("load_state_with_optimizer", {"path": path + name}), names),
        st.builds(lambda rank: Submit("init_trainer_server", {"lora_rank": rank, "seed": 1}), st.sampled_from((4, 8))),
    )


@attrs.define
class Client:
    """What the client of a run remembers: where it is in its script, and what it was told."""

    at: int = 0
    ids: dict[int, str] = attrs.field(factory=dict)


@attrs.frozen
class Photograph:
    root: Path
    client: Client


class Camera:
    """Photographs a data directory at some of its instants. Each lies between two changes of the disk."""

    def __init__(self, root: Path, instants: Container[int]) -> None:
        self._root, self._instants = root, instants
        self.count = 0
        self.client = Client()
        self.taken: list[Photograph] = []

    def instant(self) -> None:
        self.count += 1
        if self.count in self._instants:
            root = Path(tempfile.mkdtemp(dir=self._root.parent)) / "data"
            shutil.copytree(self._root, root, symlinks=True)
            self.taken.append(Photograph(root, attrs.evolve(self.client, ids=dict(self.client.ids))))


@contextmanager
def watched(camera: Camera) -> Iterator[None]:
    """Every change of the disk has an instant before and one after it. A kill needs no flushing."""

    def around(change: Callable[..., Any]) -> Callable[..., Any]:
        def changing(*given: Any, **options: Any) -> Any:
            camera.instant()
            result = change(*given, **options)
            camera.instant()
            return result

        return changing

    @contextmanager
    def transaction(self: Journal) -> Iterator[None]:
        camera.instant()
        with plain(self):
            yield
        camera.instant()

    plain = Journal._transaction
    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "replace", "mkdir", "unlink", "symlink_to"):
            patch.setattr(Path, name, around(getattr(Path, name)))
        patch.setattr(shutil, "rmtree", around(shutil.rmtree))
        patch.setattr(os, "fsync", around(lambda _descriptor: None))
        patch.setattr(Journal, "_transaction", transaction)
        patch.setattr(journal, "_SETTINGS", journal._SETTINGS.replace("FULL", "OFF"))
        yield


def do_all(operations: Operations) -> None:
    """In this thread, so that a pass is the same each time."""
    while operations.queued:
        operation = operations._queue.get_nowait()
        assert operation is not None
        operations._do(operation)


@attrs.frozen
class Outcome:
    """All that anybody can see of a run."""

    replies: dict[int, Any]
    ids: dict[int, str]
    logits: list[float]
    moments: list[list[float]]
    step: int
    rank: int
    checkpoints: list[tuple[str, str, int, bytes]]
    live: tuple[str, int] | None


async def a_pass(script: list[Action], client: Client, camera: Camera, root: Path) -> Outcome:
    storage, engine = Storage(root), double_engine.Trainer()
    trainer = Trainer(storage, api_key=KEY)
    operations = trainer._operations
    camera.client = client
    with watched(camera), pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations._worker, "start", lambda: None)
        await trainer.open(RUN, engine)
        while client.at < len(script):
            act(trainer, script[client.at], client)
            client.at += 1
        do_all(operations)
        outcome = seen(storage, engine, operations, client)
        await trainer._shut_down(trainer.app)
    assert len(list((root / "runs" / RUN.id / "progress" / "states").iterdir())) <= 2
    return outcome


def act(trainer: Trainer, action: Action, client: Client) -> None:
    if action is None:
        do_all(trainer._operations)
        return
    body = json.dumps(action.body).encode()
    try:
        operation_id = trainer._admit(_ENDPOINTS[action.name], f"key-{client.at}", body)
    except LoopsError:  # refused: a checkpoint that is not there; the client goes on without
        return
    client.ids[client.at] = operation_id


def seen(storage: Storage, engine: Any, operations: Operations, client: Client) -> Outcome:
    live = storage.live(RUN.id)
    return Outcome(
        {at: json.loads(operations._records.get(one).reply or b"null") for at, one in client.ids.items()},
        client.ids,
        engine.logits.tolist(),
        engine.moments.tolist(),
        engine.step,
        engine.config.lora_rank,
        [
            (one.checkpoint.target, one.checkpoint.checkpoint_id, one.policy_version, _weights(one.folder))
            for one in sorted(storage.checkpoints(RUN.id), key=lambda one: str(one.checkpoint.path))
        ],
        None if live is None else (live.name, live.policy_version),
    )


def _weights(folder: Path) -> bytes:
    return (folder / "adapter_model.json").read_bytes()


def run(script: list[Action], photograph: Photograph, instants: Container[int] = ()) -> tuple[Outcome, Camera]:
    camera = Camera(photograph.root, instants)
    client = attrs.evolve(photograph.client, ids=dict(photograph.client.ids))
    return asyncio.run(a_pass(script, client, camera, photograph.root)), camera


def nothing_yet(folder: Path) -> Photograph:
    root = Path(tempfile.mkdtemp(dir=folder)) / "data"
    root.mkdir()
    Storage.create(root).write_run(RUN)
    return Photograph(root, Client())


FB, STEP = Submit("forward_backward", batch(1, 2)), Submit("optim_step", {"adam_params": {"learning_rate": 1.0}})
FAIL = Submit("forward_backward", {**batch(1, 2), "loss_fn_config": {"fail": True}})
SAVE, INIT = Submit("save_state", {"name": "a"}), Submit("init_trainer_server", {"lora_rank": 8, "seed": 1})
LOAD = Submit("load_state_with_optimizer", {"path": f"bt://loops:{RUN.id}/weights/a"})


@pytest.mark.parametrize(
    "script",
    [
        [FB, FB, STEP, FB, STEP],
        [FB, FAIL, FB, STEP, None, FB, STEP],
        [FB, STEP, SAVE, None, STEP, LOAD, FB, None, INIT, LOAD, FB, STEP, SAVE],
    ],
    ids=("steps", "failures", "checkpoints"),
)
def test_killed_at_every_single_instant_a_run_ends_where_it_would_have_ended(
    script: list[Action], tmp_path: Path
) -> None:
    wanted, camera = run(script, nothing_yet(tmp_path), range(10_000))
    assert len(camera.taken) == camera.count > 40
    for photograph in camera.taken:
        outcome, _ = run(script, photograph)
        assert outcome.ids.items() >= photograph.client.ids.items()
        assert attrs.evolve(outcome, ids={}) == attrs.evolve(wanted, ids={})


@given(
    script=st.lists(submits(), min_size=3, max_size=14),
    instants=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_killed_again_and_again_a_run_ends_where_it_would_have_ended(
    script: list[Action], instants: list[float]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        start = nothing_yet(Path(folder))
        shutil.copytree(start.root, again := start.root.with_name("again"))
        wanted, camera = run(script, start)
        photograph = Photograph(again, Client())
        for instant in instants:  # every pass goes to its own end, and what it photographed is where the next begins
            outcome, camera = run(script, photograph, {1 + int(instant * camera.count)})
            assert attrs.evolve(outcome, ids={}) == attrs.evolve(wanted, ids={})
            if not camera.taken:
                break
            (photograph,) = camera.taken
