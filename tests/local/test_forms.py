"""The trainer and the binary form of requests and results: offered, taken, journalled, refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import double_engine
import numpy as np
import pytest

from loops_sdk._wire.packing import MEDIA_TYPE, is_packed, pack, unpack
from loops_sdk.local.storage import Storage

from .conftest import KEY, Peer, Serve
from .test_durability import a_trainer

Make = Callable[..., Awaitable[Peer]]


def packed(*tokens: int) -> bytes:
    chunk = {"type": "encoded_text", "tokens": np.array(tokens)}
    return pack({"data": [{"model_input": {"chunks": [chunk]}, "loss_fn_inputs": {}}], "loss_fn": "cross_entropy"})


async def binary(peer: Peer, operation_id: str) -> Any:
    headers = {"Authorization": f"Bearer {KEY}", "Accept": f"{MEDIA_TYPE}, application/json"}
    async with peer.session.get(f"{peer.url}/operations/{operation_id}", headers=headers) as response:
        assert response.status == 200
        body = await response.read()
        assert is_packed(body) == (response.content_type == MEDIA_TYPE)
        return unpack(body) if is_packed(body) else await response.json()


async def test_it_is_offered_with_every_operation_that_is_accepted(trainer: Make) -> None:
    peer = await trainer()
    answer = await peer.post("/forward", packed(1, 2, 3))
    assert (answer.status, MEDIA_TYPE in answer.headers["Accept"]) == (202, True)


async def test_a_result_comes_in_the_form_of_its_request_but_json_can_be_had(trainer: Make) -> None:
    peer = await trainer()
    asked = await peer.submit("/forward", packed(1, 2, 3))
    reply, in_json = await binary(peer, asked), await peer.result(asked)
    logprobs = reply["result"]["loss_fn_outputs"][0]["logprobs"]
    assert logprobs["data"].dtype == np.float32
    assert in_json["loss_fn_outputs"][0]["logprobs"] == {**logprobs, "data": pytest.approx(logprobs["data"].tolist())}
    assert in_json["loss"] == reply["result"]["loss"]
    plain = await peer.submit("/forward", {"data": [{"model_input": {"chunks": [{"tokens": [1, 2, 3]}]}}]})
    assert (await binary(peer, plain))["result"] == in_json


async def test_a_failure_is_json_whatever_the_request_was(trainer: Make, engine: double_engine.Trainer) -> None:
    peer = await trainer()
    asked = await peer.submit("/optim_step", pack({"adam_params": {"learning_rate": 1.0}}))
    assert (await binary(peer, asked))["status"] == "error"


@pytest.mark.parametrize(
    "body",
    [packed(1, 2)[:-1], packed(1, 2) + b"x", packed(-1), packed(), b"\0" * 20, pack([]), pack({"data": np.arange(3)})],
    ids=["cut", "longer", "negative", "empty", "zeros", "list", "numbers"],
)
async def test_what_is_wrong_is_refused_at_submission(trainer: Make, body: bytes) -> None:
    peer = await trainer()
    answer = await peer.post("/forward_backward", body)
    assert answer.status in (400, 422)
    assert (await peer.get("/operations")).json == {"operations": []}


async def test_requests_and_results_outlive_the_process_in_their_form(
    storage: Storage, serve: Serve, engine: double_engine.Trainer
) -> None:
    async with a_trainer(serve, storage, engine) as peer:
        finished = await peer.submit("/forward_backward", packed(1, 2), key="one")
        before = await binary(peer, finished)
        engine.gate.clear()
        waiting = await peer.submit("/forward_backward", packed(3, 4), key="two")
    async with a_trainer(serve, storage, double_engine.Trainer()) as again:
        after = await binary(again, finished)
        assert after["result"]["loss"] == before["result"]["loss"]
        assert await again.submit("/forward_backward", packed(1, 2), key="one") == finished
        assert (await again.post("/forward_backward", packed(1, 3), key="one")).status == 422
        logprobs = (await binary(again, waiting))["result"]["loss_fn_outputs"][0]["logprobs"]
        assert isinstance(logprobs["data"], np.ndarray)
        assert (await again.do("/optim_step", {}))["metrics"]["step"] == 1
