"""The sampler over HTTP: models, completions, versions that are waited for, adapters that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import double_engine
import numpy as np
import pytest

from loops_sdk._wire.completions import MIN_POLICY_VERSION, POLICY_VERSION, sample_result
from loops_sdk.local.sampler import Sampler
from loops_sdk.local.serving import WATCHING
from loops_sdk.local.storage import RunRecord, Saved, Storage
from loops_sdk.types import AdamParams, CheckpointPath, Datum

from .conftest import KEY, RUN, SAMPLER, Answer, Peer, Serve, until

Make = Callable[..., Awaitable[Peer]]
BASE: dict[str, Any] = {"model": "double/model", "prompt": [1, 2], "max_tokens": 4}
LIVE: dict[str, Any] = {**BASE, "model": "run7"}
GREEDY = {"temperature": 0, "logprobs": 0, "return_token_ids": True}


def save(storage: Storage, name: str, *, favourite: int, version: int, run: RunRecord = RUN) -> Saved:
    """A checkpoint whose model likes one token best."""
    engine = double_engine.Trainer()
    for _ in range(version):
        engine.forward_backward([Datum([favourite] * 4, {"target_tokens": [favourite] * 4})], "cross_entropy", None)
        engine.optim_step(AdamParams(learning_rate=1.0))
    path = CheckpointPath(run.id, "sampler_weights", name)
    return storage.save(
        path,
        engine.save_adapter,
        base_model="m",
        adapter_config=dict(engine.adapter_config),
        policy_version=engine.step,
    )


def publish(storage: Storage, name: str, *, favourite: int, version: int) -> None:
    storage.publish(save(storage, name, favourite=favourite, version=version))
    storage.sweep("run7")


async def complete(peer: Peer, body: Mapping[str, Any], least: int | None = None) -> Answer:
    headers = {} if least is None else {MIN_POLICY_VERSION: str(least)}
    return await peer.post("/v1/completions", dict(body), headers=headers)


def first_token(answer: Answer) -> tuple[int, int]:
    """The favourite of the weights that answered, and the version they said they were."""
    assert answer.status == 200, answer
    return answer.json["choices"][0]["token_ids"][0], answer.json["policy_version"]


async def test_models_are_the_base_the_live_adapter_and_the_published_checkpoints(
    sampler: Make, storage: Storage
) -> None:
    peer = await sampler()
    base = {"id": "double/model", "parent": None, "max_model_len": 64, "root": "/nowhere", "object": "model"}
    assert (await peer.get("/v1/models")).json["data"] == [{**base, "policy_version": None}]
    save(storage, "early", favourite=3, version=1)
    publish(storage, "late", favourite=3, version=2)
    cards = (await peer.get("/v1/models")).json["data"]
    assert [(card["id"], card["parent"], card["policy_version"]) for card in cards] == [
        ("double/model", None, None),
        ("run7", "double/model", 2),
        ("bt://loops:run7/sampler_weights/early", "double/model", 1),
        ("bt://loops:run7/sampler_weights/late", "double/model", 2),
    ]


async def test_who_watches_is_told_which_weights_answer(sampler: Make, storage: Storage, serve: Serve) -> None:
    loading = await serve(Sampler(storage, api_key=KEY).app)
    assert (await loading.get(f"{WATCHING}/weights")).json == {"policy_version": None}  # at once
    peer = await sampler()
    assert (await peer.get(f"{WATCHING}/weights")).json == {"policy_version": None}
    publish(storage, "late", favourite=3, version=2)
    assert (await peer.get("/v1/models")).status == 200  # which looks for what was published
    assert (await peer.get(f"{WATCHING}/weights")).json == {"policy_version": 2}
    assert (await peer.get(f"{WATCHING}/weights?limit=1")).status == 422


async def test_a_completion_with_everything_reads_as_the_client_reads_it(sampler: Make) -> None:
    body = {**BASE, "n": 3, "seed": 5, "logprobs": 0, "prompt_logprobs": 2, "return_tokens_as_token_ids": True}
    answer = await complete(await sampler(), body)
    result = sample_result(answer.json, answer.headers, topk_prompt_logprobs=2)
    assert len(result.sequences) == 3
    assert len({tuple(sequence.tokens) for sequence in result.sequences}) == 3
    uniform = -np.log(32)
    assert all(np.allclose(sequence.logprobs, uniform) for sequence in result.sequences)
    assert {sequence.stop_reason for sequence in result.sequences} <= {"length", "stop"}
    assert result.prompt_logprobs == [None, pytest.approx(uniform)]
    assert result.topk_prompt_logprobs is not None
    assert result.topk_prompt_logprobs[0] is None
    assert len(result.topk_prompt_logprobs[1] or {}) == 2
    assert (result.policy_version, result.prompt_token_ids) == (0, [1, 2])
    usage = answer.json["usage"]
    assert usage["prompt_tokens"] == 2
    assert usage["total_tokens"] == 2 + sum(len(sequence.tokens) for sequence in result.sequences)
    assert answer.headers[POLICY_VERSION] == "0"


async def test_tokens_come_as_ids_or_as_text_or_not_at_all(sampler: Make) -> None:
    peer = await sampler()
    plain = (await complete(peer, {**BASE, "temperature": 0})).json["choices"][0]
    assert plain["logprobs"] is None
    assert "token_ids" not in plain
    ids = (await complete(peer, {**BASE, "temperature": 0, "return_token_ids": True})).json["choices"][0]
    assert ids["token_ids"] == [0, 0, 0, 0]
    assert ids["prompt_token_ids"] == [1, 2]
    text = (await complete(peer, {**BASE, "temperature": 0, "return_tokens_as_token_ids": True})).json["choices"][0]
    assert text["logprobs"]["tokens"] == ["token_id:0"] * 4


async def test_a_seed_makes_it_repeatable_in_any_company(sampler: Make) -> None:
    peer = await sampler()
    body = {**BASE, "seed": 7, "max_tokens": 20, "return_token_ids": True}
    alone = await complete(peer, body)
    crowd = await asyncio.gather(*(complete(peer, {**body, "seed": 7 + number % 2}) for number in range(20)))
    assert {tuple(answer.json["choices"][0]["token_ids"]) for answer in crowd[::2]} == {
        tuple(alone.json["choices"][0]["token_ids"])
    }


async def test_max_tokens_is_what_the_context_holds_by_default(sampler: Make) -> None:
    body = {"model": "double/model", "prompt": [1] * 60, "temperature": 0, "return_token_ids": True}
    for peer, room in ((await sampler(), 4), (await sampler(attrs.evolve(SAMPLER, max_seq_len=62)), 2)):
        assert len((await complete(peer, body)).json["choices"][0]["token_ids"]) == room


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"prompt": "text"}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": [99]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [1] * 64}, "prompt"),
        ({"n": 0}, "n:"),
        ({"n": 10**9}, "n:"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": 0}, "top_k"),
        ({"seed": -1}, "seed"),
        ({"logprobs": 5}, "logprobs"),
        ({"prompt_logprobs": -1}, "prompt_logprobs"),
        ({"stop": ["a"], "stop_token_ids": [1]}, "stop_token_ids"),
        ({"tempature": 1}, "tempature"),
    ],
)
async def test_bad_input_is_refused_by_name(sampler: Make, change: dict[str, Any], names: str) -> None:
    refused = await complete(await sampler(), {**BASE, **change})
    assert refused.status == 422
    assert names in refused.json["error"]["message"]
    assert refused.json["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "model",
    [
        "other/model",
        "run7",
        "bt://loops:run7/sampler_weights/nothing",
        "bt://loops:../sampler_weights/x",
        "bt://loops:run7/weights/x",
        "",
    ],
)
async def test_an_unknown_model_is_404_in_openai_form(sampler: Make, model: str) -> None:
    refused = await complete(await sampler(), {**BASE, "model": model})
    assert refused.status == 404
    assert refused.json["error"]["code"] == "not_found"


async def test_it_follows_the_pointer_without_a_restart(sampler: Make, storage: Storage) -> None:
    peer = await sampler()
    for version, favourite in ((1, 4), (2, 9), (3, 4)):
        publish(storage, "same-name", favourite=favourite, version=version)
        assert first_token(await complete(peer, {**LIVE, **GREEDY})) == (favourite, version)
    assert first_token(await complete(peer, {**BASE, **GREEDY})) == (0, 0)


async def test_an_adapter_published_before_the_start_is_live_at_once(sampler: Make, storage: Storage) -> None:
    publish(storage, "x", favourite=4, version=1)
    assert first_token(await complete(await sampler(), {**LIVE, **GREEDY})) == (4, 1)


async def test_a_request_waits_for_the_version_it_asks_for(sampler: Make, storage: Storage) -> None:
    peer = await sampler()
    publish(storage, "one", favourite=4, version=1)
    waiting = [asyncio.create_task(complete(peer, {**LIVE, **GREEDY}, least=3)) for _ in range(5)]
    present = await complete(peer, {**LIVE, **GREEDY}, least=1)
    assert first_token(present) == (4, 1)
    publish(storage, "two", favourite=5, version=2)
    assert first_token(await complete(peer, {**LIVE, **GREEDY}, least=2)) == (5, 2)
    assert not any(task.done() for task in waiting)
    publish(storage, "three", favourite=6, version=3)
    for answer in await asyncio.wait_for(asyncio.gather(*waiting), 10):
        assert first_token(answer) == (6, 3)
        assert answer.headers[POLICY_VERSION] == "3"


async def test_waiting_ends_with_503_that_names_both_versions(sampler: Make, storage: Storage) -> None:
    peer = await sampler(wait=0.02)
    refused = await complete(peer, LIVE, least=1)
    assert refused.status == 503
    publish(storage, "two", favourite=4, version=2)
    refused = await complete(peer, LIVE, least=7)
    assert refused.status == 503
    assert "version 7" in refused.json["error"]["message"]
    assert "version 2" in refused.json["error"]["message"]
    assert float(refused.headers["Retry-After"]) > 0


async def test_weights_that_never_change_are_not_waited_for(sampler: Make, storage: Storage) -> None:
    peer = await sampler()
    publish(storage, "two", favourite=4, version=2)
    for model in ("double/model", "bt://loops:run7/sampler_weights/two"):
        refused = await complete(peer, {**BASE, "model": model}, least=3)
        assert refused.status == 400
        assert "version 3" in refused.json["error"]["message"]
    assert first_token(
        await complete(peer, {**BASE, **GREEDY, "model": "bt://loops:run7/sampler_weights/two"}, least=2)
    ) == (4, 2)


@pytest.mark.parametrize("least", ["-1", "x", "1.5", "9" * 30, "\u0661"])
async def test_a_version_that_is_none_is_refused(sampler: Make, least: str) -> None:
    peer = await sampler()
    refused = await peer.post("/v1/completions", BASE, headers={MIN_POLICY_VERSION: least})
    assert refused.status == 422
    assert MIN_POLICY_VERSION in refused.json["error"]["message"]


async def test_a_request_that_runs_keeps_its_weights(
    sampler: Make, storage: Storage, generator: double_engine.Generator
) -> None:
    peer = await sampler(most_adapters=1)
    publish(storage, "one", favourite=4, version=1)
    generator.gate.clear()
    running = asyncio.create_task(complete(peer, {**LIVE, **GREEDY, "max_tokens": 30}))
    await until(lambda: generator.pending)
    for version in range(2, 6):
        publish(storage, "other", favourite=9, version=version)
        assert (await peer.get("/v1/models")).json["data"][1]["policy_version"] == version
    generator.gate.set()
    answer = await running
    assert first_token(answer) == (4, 1)
    assert set(answer.json["choices"][0]["token_ids"]) == {4}


async def test_checkpoints_are_loaded_on_demand_and_few_stay(
    sampler: Make, storage: Storage, generator: double_engine.Generator
) -> None:
    peer = await sampler(most_adapters=2)
    names = [f"c{number}" for number in range(4)]
    for number, name in enumerate(names):
        save(storage, name, favourite=number + 1, version=number + 1)
    publish(storage, "live", favourite=20, version=9)
    for _ in range(2):
        for number, name in enumerate(names):
            model = f"bt://loops:run7/sampler_weights/{name}"
            assert first_token(await complete(peer, {**BASE, **GREEDY, "model": model})) == (number + 1, number + 1)
            assert len(generator.adapters) <= 3
    assert generator.loads == 9
    assert first_token(await complete(peer, {**LIVE, **GREEDY})) == (20, 9)
    assert generator.loads == 9


async def test_an_adapter_that_does_not_load_leaves_the_old_one_live(
    sampler: Make, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    peer = await sampler()
    publish(storage, "good", favourite=4, version=1)
    bad = storage.save(
        CheckpointPath("run7", "sampler_weights", "bad"),
        lambda folder: None,
        base_model="m",
        adapter_config={},
        policy_version=2,
    )
    await peer.get("/v1/models")
    storage.publish(bad)
    assert first_token(await complete(peer, {**LIVE, **GREEDY})) == (4, 1)
    assert "cannot be loaded" in caplog.text
    refused = await complete(peer, {**BASE, "model": "bt://loops:run7/sampler_weights/bad"})
    assert refused.status == 500
    publish(storage, "better", favourite=5, version=3)
    assert first_token(await complete(peer, {**LIVE, **GREEDY})) == (5, 3)


async def test_a_client_that_goes_away_takes_its_request_with_it(
    sampler: Make, generator: double_engine.Generator
) -> None:
    peer = await sampler()
    generator.gate.clear()
    going = asyncio.create_task(complete(peer, BASE))
    await until(lambda: generator.pending)
    going.cancel()
    assert await asyncio.to_thread(generator.cancelled.acquire, True, 10)
    assert generator.pending == 0
    generator.gate.set()
    assert (await complete(peer, BASE)).status == 200


async def test_an_engine_that_fails_fails_what_runs_and_goes_on(
    sampler: Make, generator: double_engine.Generator
) -> None:
    peer = await sampler()
    generator.fail_next = RuntimeError("out of memory")
    assert (await complete(peer, BASE)).status == 500
    assert (await complete(peer, BASE)).status == 200


async def test_too_many_requests_are_429(sampler: Make, generator: double_engine.Generator) -> None:
    peer = await sampler(most_requests=2)
    generator.gate.clear()
    running = [asyncio.create_task(complete(peer, BASE)) for _ in range(2)]
    await until(lambda: generator.pending == 2)
    assert (await complete(peer, BASE)).status == 429
    generator.gate.set()
    assert {answer.status for answer in await asyncio.gather(*running)} == {200}


async def test_a_standalone_sampler_serves_one_checkpoint(sampler: Make, storage: Storage) -> None:
    save(storage, "one", favourite=4, version=2)
    path = "bt://loops:run7/sampler_weights/one"
    peer = await sampler(attrs.evolve(SAMPLER, run_id=None, model_path=path))
    assert [card["id"] for card in (await peer.get("/v1/models")).json["data"]] == ["double/model", path]
    assert first_token(await complete(peer, {**BASE, **GREEDY, "model": path}, least=2)) == (4, 2)
    assert first_token(await complete(peer, {**BASE, **GREEDY})) == (0, 0)


async def test_a_pinned_request_is_never_served_by_older_weights(sampler: Make, storage: Storage) -> None:
    peer = await sampler()
    stop = asyncio.Event()
    newest = 0

    async def sample() -> int:
        count = 0
        while not stop.is_set():
            floor = newest
            answer = await complete(peer, {**LIVE, **GREEDY, "max_tokens": 3}, least=floor)
            if answer.status == 404:
                continue
            token, version = first_token(answer)
            assert version >= floor
            assert token == version % 30
            count += 1
        return count

    samplers = [asyncio.create_task(sample()) for _ in range(8)]
    for version in range(1, 31):
        saved = await asyncio.to_thread(save, storage, "same", favourite=version % 30, version=version)
        storage.publish(saved)
        storage.sweep("run7")
        newest = version
        await complete(peer, LIVE, least=version)
    stop.set()
    assert all(await asyncio.gather(*samplers))


async def test_health_is_503_until_the_engine_is_there(storage: Storage, serve: Serve, sampler: Make) -> None:
    empty = await serve(Sampler(storage, api_key=KEY, wait=0.05).app)
    for answer in (await empty.get("/health"), await empty.get("/v1/models"), await complete(empty, BASE)):
        assert answer.status == 503
        assert "loading" in answer.json["error"]["message"]
    assert (await (await sampler()).get("/health")).status == 200
