"""Every call of the clients, with good arguments: which requests it may lead to, and what a result must look like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
from hostile_json import KEY
from hostile_server import MODEL, PROMPT, RUN_ID, SAMPLER_WEIGHTS, WEIGHTS

from loops_sdk import (
    AdamParams,
    BasetenDeployment,
    Checkpoint,
    CheckpointFilesResponse,
    Datum,
    ForwardBackwardOutput,
    InitTrainerServerResponse,
    LoadWeightsResponse,
    LocalDeployment,
    OptimStepResponse,
    SampleResult,
    SamplingClient,
    SamplingParams,
    SaveWeightsResponse,
    ServerCapabilities,
    ServiceClient,
    TrainingClient,
    from_dict,
    to_dict,
)
from loops_sdk._net.network import Network
from loops_sdk._wire.retrying import Backoff

FLOOR = 3
DATA = [Datum(PROMPT, {"target_tokens": [4, 5, 6]})]
#: Seconds that one operation, one wait and one request may take. A case is over in a few of them.
PATIENCE, REQUEST, PAUSE = 0.6, 0.3, 0.01

Work = Callable[[str], Awaitable[Any]]
Check = Callable[[Any], None]


@attrs.frozen
class Call:
    """One call of a client.

    Attributes:
        asks: the requests that it may lead to.
        work: makes it, given the address of the server.
        check: asserts that what came back is what the documentation promises.
        compares: arguments that the call compares with what the server tells, and blames when they differ.
    """

    asks: tuple[str, ...]
    work: Work
    check: Check
    compares: tuple[str, ...] = ()


def hasten(network: Network) -> None:
    """The same decisions with hardly any waiting."""
    transport = network.transport
    request, pause = transport.request, transport.pause

    async def in_haste(*arguments: Any, timeout: float, **options: Any) -> Any:
        return await request(*arguments, timeout=min(timeout, REQUEST), **options)

    transport.request = in_haste  # type: ignore[method-assign]
    stream = transport.stream
    transport.stream = lambda url, **options: stream(url, **{**options, "idle": REQUEST})  # type: ignore[method-assign]
    transport.pause = lambda seconds: pause(min(seconds, PAUSE))  # type: ignore[method-assign]
    network.caller._backoff = Backoff(first=0.002, cap=PAUSE)


@asynccontextmanager
async def service(url: str, **options: Any) -> AsyncIterator[ServiceClient]:
    client = ServiceClient(base_url=url, api_key=KEY, **options)
    hasten(client._network)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def attached(url: str) -> AsyncIterator[ServiceClient]:
    client = ServiceClient.local(trainer_url=f"{url}/t", sampler_url=f"{url}/s", api_key=KEY)
    hasten(client._network)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def training(url: str) -> AsyncIterator[TrainingClient]:
    client = TrainingClient(
        f"{url}/t",
        base_model=MODEL,
        lora_rank=4,
        run_id=RUN_ID,
        api_key=KEY,
        timeout=PATIENCE,
        ready_timeout=PATIENCE,
        publish_timeout=PATIENCE,
        paired_sampling_deployment=LocalDeployment(f"{url}/s"),
    )
    hasten(client._network)
    client._channel._source.polling.backoff = client._network.caller._backoff
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def sampling(url: str, **options: Any) -> AsyncIterator[SamplingClient]:
    given = {"deployment": LocalDeployment(f"{url}/s"), "timeout": 3 * PATIENCE, "ready_timeout": PATIENCE, **options}
    client = SamplingClient(base_model=MODEL, api_key=KEY, **given)
    hasten(client._connection.network)
    try:
        yield client
    finally:
        await client.aclose()


WAITS: dict[str, Any] = {"timeout": PATIENCE, "ready_timeout": PATIENCE}


# ---------------------------------------------------------------- calls


async def opened(url: str) -> Any:
    async with service(url) as client:
        return (await client.open_async()).session_id


async def opened_for_a_team(url: str) -> Any:
    async with service(url, team="a team") as client:
        return (await client.open_async()).session_id


async def run_with_sampler(url: str) -> Any:
    async with service(url) as client:
        made = await client.create_lora_training_client_async(MODEL, 4, with_sampler=True, **WAITS)
        hurry(made)
        return made.get_info(), made.run_id, repr(made), await made.list_checkpoints_async()


async def run_without_sampler(url: str) -> Any:
    async with service(url) as client:
        waits = {**WAITS, "publish_timeout": PATIENCE}
        made = await client.create_lora_training_client_async(MODEL, 4, with_sampler=False, **waits)
        hurry(made)
        published = await made.save_weights_and_get_sampling_client_async("a")
        await published
        return made.get_info(), made.run_id, repr(made), []


async def run_from_state(url: str) -> Any:
    async with service(url) as client:
        made = await client.create_training_client_from_state_async(WEIGHTS, **WAITS)
        return made.get_info(), made.run_id, repr(made), []


async def attached_run(url: str) -> Any:
    async with attached(url) as client:
        made = await client.create_lora_training_client_async(MODEL, 4, **WAITS)
        return made.get_info(), made.run_id, repr(made), []


async def run_of_another_process(url: str) -> Any:
    async with service(url) as client:
        made = await client.attach_training_client_async(RUN_ID, **WAITS)
        return made.get_info(), made.run_id, repr(made), []


async def own_sampler(url: str) -> Any:
    async with service(url) as client:
        made = await client.create_sampling_client_async(MODEL, **WAITS)
        return made.sampler_id, made.session_id, repr(made)


async def checkpoints(url: str) -> Any:
    async with service(url) as client:
        return await client.list_checkpoints_async(RUN_ID)


async def archive(url: str) -> Any:
    async with service(url) as client:
        return await client.get_checkpoint_archive_url_async(WEIGHTS)


async def download(url: str) -> Any:
    """The files that came, by their names."""
    with TemporaryDirectory() as root:
        try:
            async with service(url) as client:
                await client.download_checkpoint_async(WEIGHTS, Path(root, "inside", "target"))
        finally:
            nothing_beside(Path(root))
        return files_in(Path(root))


def nothing_beside(root: Path) -> None:
    assert [path for path in root.iterdir() if path.name != "inside"] == []
    assert [path for path in root.glob("inside/*") if path.name != "target"] == []


def files_in(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.rglob("*") if path.is_file()}


async def capabilities(url: str) -> Any:
    async with service(url) as client:
        return await client.get_server_capabilities_async()


def hurry(client: TrainingClient) -> None:
    client._channel._source.polling.backoff = client._network.caller._backoff


def operation(submit: Callable[[TrainingClient], Awaitable[Any]]) -> Work:
    async def work(url: str) -> Any:
        async with training(url) as client:
            return await (await submit(client))

    return work


async def many_operations(url: str) -> Any:
    """Results of whatever is accepted, in the order of the calls."""
    async with training(url) as client:
        calls = [client.forward_backward_async(DATA) for _ in range(3)]
        futures = await asyncio.gather(*calls, return_exceptions=True)
        accepted = [future for future in futures if not isinstance(future, BaseException)]
        results = await asyncio.gather(*accepted, return_exceptions=True)
        if failed := [one for one in (*futures, *results) if isinstance(one, BaseException)]:
            raise failed[0]
        return results


async def resumed(url: str) -> Any:
    """An operation that is asked for twice, by the future it gave and by one made of its id."""
    async with training(url) as client:
        first = await client.optim_step_async(AdamParams())
        second = await client.resume_operation_async("optim_step", first.operation_id)
        results = await asyncio.gather(first, second, return_exceptions=True)
        if failed := [one for one in results if isinstance(one, BaseException)]:
            raise failed[0]
        return results


async def policy_version(url: str) -> Any:
    async with training(url) as client:
        return await client.policy_version_async()


async def health(url: str) -> Any:
    async with training(url) as client:
        return await client.health_async()


async def published(url: str) -> Any:
    async with training(url) as client:
        pinned = await (await client.save_weights_and_get_sampling_client_async("a"))
        return pinned.min_policy_version


async def checkpoint_sampler(url: str) -> Any:
    async with training(url) as client:
        made = await client.create_sampling_client_async(SAMPLER_WEIGHTS)
        return await made.sample_async(PROMPT)


def sample(prompt_logprobs: bool = False, topk: int = 0, **options: Any) -> Work:
    async def work(url: str) -> Any:
        async with sampling(url, **options) as client:
            return await client.sample_async(PROMPT, 1, SamplingParams(max_tokens=4), prompt_logprobs, topk)

    return work


async def scored(url: str) -> Any:
    async with sampling(url) as client:
        return await client.compute_logprobs_async(PROMPT)


async def names_of_models(url: str) -> Any:
    async with sampling(url) as client:
        return await client.get_base_model_id_async(), await client.get_adapter_id_async()


async def sampler_ready(url: str) -> Any:
    deployment = BasetenDeployment(f"{url}/s", "m7", "d7", api_base_url=url)
    async with sampling(url, deployment=deployment) as client:
        return await client.ensure_ready_async()


# ---------------------------------------------------------------- what comes back


def is_text(value: Any) -> None:
    assert isinstance(value, str)
    assert value


def is_whole(kind: type[Any]) -> Check:
    """A value of the API that survives being taken apart and put together, which checks the type of every field."""

    def check(value: Any) -> None:
        assert isinstance(value, kind)
        assert repr(value)
        from_dict(kind, to_dict(value))

    return check


def each(check: Check) -> Check:
    def all_of(values: Any) -> None:
        assert isinstance(values, list)
        for value in values:
            check(value)

    return all_of


def is_run(value: Any) -> None:
    info, run_id, shown, found = value
    assert info.base_model == MODEL
    assert info.lora_rank == 4
    is_text(shown)
    is_text(run_id)
    each(is_checkpoint)(found)


def is_attached_run(value: Any) -> None:
    assert value[0].base_model == MODEL
    assert value[1] is None or value[1]


def is_checkpoint(value: Any) -> None:
    is_whole(Checkpoint)(value)
    assert value.created_at.tzinfo is not None, "documented: with time zone"


def is_pass(value: Any) -> None:
    is_whole(ForwardBackwardOutput)(value)
    assert isinstance(value.loss, float)


def is_download(value: Any) -> None:
    for name, content in value.items():
        assert name
        assert len(content) < 10**7


def is_none(value: Any) -> None:
    assert value is None


def is_version(value: Any) -> None:
    assert type(value) is int
    assert value >= 0


def is_sample(value: Any) -> None:
    is_whole(SampleResult)(value)
    assert len(value.sequences) == 1
    for one in value.sequences:
        assert all(type(token) is int and token >= 0 for token in one.tokens)
        assert all(type(number) is float for number in one.logprobs)
        assert len(one.logprobs) in (0, len(one.tokens))
        assert type(one.stop_reason) is str
    assert value.policy_version is None or type(value.policy_version) is int
    for per_token in (value.prompt_logprobs, value.topk_prompt_logprobs, value.prompt_token_ids):
        assert per_token is None or len(per_token) == len(PROMPT)


def is_pinned(value: Any) -> None:
    is_sample(value)
    assert value.policy_version is None or value.policy_version >= FLOOR, "older than the client is pinned to"


def is_score(value: Any) -> None:
    assert len(value) == len(PROMPT)
    assert all(number is None or type(number) is float for number in value)


def is_model_names(value: Any) -> None:
    base, adapter = value
    is_text(base)
    assert adapter is None or isinstance(adapter, str)


def is_own_sampler(value: Any) -> None:
    for text in value:
        is_text(text)


_SUBMITTED = {
    "forward_backward": (lambda one: one.forward_backward_async(DATA), is_pass),
    "forward": (lambda one: one.forward_async(DATA), is_pass),
    "optim_step": (lambda one: one.optim_step_async(AdamParams()), is_whole(OptimStepResponse)),
    "save_state": (lambda one: one.save_state_async("a"), is_whole(SaveWeightsResponse)),
    "save_weights_for_sampler": (lambda one: one.save_weights_for_sampler_async("a"), is_whole(SaveWeightsResponse)),
    "load_state": (lambda one: one.load_state_async(WEIGHTS), is_whole(LoadWeightsResponse)),
    "load_state_with_optimizer": (
        lambda one: one.load_state_with_optimizer_async(WEIGHTS),
        is_whole(LoadWeightsResponse),
    ),
    "init_trainer_server": (lambda one: one.init_trainer_server_async(4), is_whole(InitTrainerServerResponse)),
}
_NEW_RUN = ("create_session", "create_trainer", "list_runs", "get_run", "capabilities", "health")
_PUBLISHING = ("submit", "save_weights_for_sampler", "policy_version", "models")
_SAMPLING = ("models", "sample")

CALLS: Mapping[str, Call] = {
    "open": Call(("create_session",), opened, is_text),
    "open for a team": Call(("list_teams", "create_session"), opened_for_a_team, is_text),
    "new run": Call((*_NEW_RUN, "create_run", "list_checkpoints"), run_with_sampler, is_run),
    "new run, then publish": Call(
        (*_NEW_RUN, "create_sampler", "model_deployment", "wake", *_PUBLISHING), run_without_sampler, is_run
    ),
    "run from state": Call((*_NEW_RUN, "list_checkpoints", "submit", "load_state"), run_from_state, is_run),
    "run of another process": Call(("get_run", "health", "status"), run_of_another_process, is_run, ("rank",)),
    "download": Call(("list_checkpoints", "checkpoint_source", "checkpoint_files", "file"), download, is_download),
    "resumed": Call(("submit", "optim_step"), resumed, each(is_whole(OptimStepResponse))),
    "attached run": Call(("health", "status"), attached_run, is_attached_run, ("base_model", "rank")),
    "own sampler": Call(
        ("create_session", "create_sampler", "list_samplers", "list_runs", "get_sampler", "model_deployment", "wake"),
        own_sampler,
        is_own_sampler,
    ),
    "checkpoints": Call(("list_checkpoints",), checkpoints, each(is_checkpoint)),
    "archive": Call(("list_checkpoints", "checkpoint_files"), archive, is_whole(CheckpointFilesResponse)),
    "capabilities": Call(("capabilities",), capabilities, is_whole(ServerCapabilities)),
    **{name: Call(("submit", name), operation(submit), check) for name, (submit, check) in _SUBMITTED.items()},
    "many operations": Call(("submit", "forward_backward"), many_operations, each(is_pass)),
    "policy version": Call(("policy_version",), policy_version, is_version),
    "health": Call(("health",), health, is_none),
    "publish": Call(_PUBLISHING, published, is_version),
    "checkpoint sampler": Call(_SAMPLING, checkpoint_sampler, is_sample),
    "sample, following": Call(_SAMPLING, sample(), is_sample),
    "sample, pinned": Call(_SAMPLING, sample(min_policy_version=FLOOR), is_pinned),
    "sample of a checkpoint": Call(_SAMPLING, sample(checkpoint_path=SAMPLER_WEIGHTS), is_sample),
    "prompt logprobs": Call(_SAMPLING, sample(prompt_logprobs=True, min_policy_version=FLOOR), is_pinned),
    "top-k": Call(_SAMPLING, sample(topk=2), is_sample),
    "score": Call(_SAMPLING, scored, is_score),
    "names of models": Call(("models",), names_of_models, is_model_names),
    "sampler ready": Call(("model_deployment", "wake"), sampler_ready, is_none),
}
