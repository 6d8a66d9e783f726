"""`TrainingClient`: what is sent, what is refused before, and how trainer and paired sampler are joined."""

from __future__ import annotations

import asyncio
import inspect
import socket
from typing import Any, get_args, get_origin

import numpy as np
import pytest

from loops_sdk import (
    AdamParams,
    Datum,
    ForwardBackwardFuture,
    GetInfoResponse,
    InitTrainerServerResponse,
    LoadWeightsResponse,
    LocalDeployment,
    OperationFuture,
    SamplingClient,
    ServiceClient,
    TensorData,
    TrainingClient,
    errors,
)
from loops_sdk.instrumentation import Event, OperationMeasured

from .conftest import KEY

DATUM = Datum([1, 2], {"target_tokens": [2, 3]})
MODELS = "GET /v1/models"
COMPLETIONS = "POST /v1/completions"


# ---------------------------------------------------------------- operations


@pytest.mark.parametrize("name", ["forward", "forward_backward"])
async def test_a_pass(training: TrainingClient, service: Any, name: str) -> None:
    call = getattr(training, f"{name}_async")
    result = await (await call([DATUM], "ppo", {"clip_low_threshold": np.float32(0.5)}))
    assert (result.loss, result.metrics) == (1.5, {"loss:sum": 1.5})
    assert result.loss_fn_outputs == [{"logprobs": TensorData([-0.5])}]
    body = service.last(f"POST /{name}").body
    assert (body["loss_fn"], body["loss_fn_config"]) == ("ppo", {"clip_low_threshold": 0.5})
    assert body["data"][0]["loss_fn_inputs"]["target_tokens"] == {"data": [2, 3], "dtype": "int64", "shape": [2]}


async def test_a_pass_gives_its_own_kind_of_future(training: TrainingClient) -> None:
    kind, (result,) = get_origin(ForwardBackwardFuture), get_args(ForwardBackwardFuture)
    for call in (training.forward_async, training.forward_backward_async):
        future = await call([DATUM])
        assert type(future) is kind
        assert type(await future) is result


async def test_a_step_and_the_version_it_tells(training: TrainingClient, service: Any) -> None:
    assert training.last_policy_version is None
    step = await training.optim_step_async(AdamParams(learning_rate=0.1))
    assert (await step).metrics["step"] == 1.0
    assert training.last_policy_version == 1
    assert service.last("POST /optim_step").body["adam_params"]["learning_rate"] == 0.1
    assert await training.policy_version_async() == 1


@pytest.mark.parametrize("step", [None, "NaN", 1e999])
async def test_a_step_without_a_number_is_no_version(
    training: TrainingClient, service: Any, reply: Any, step: Any
) -> None:
    service._operations["op-0"] = {"metrics": {"step": step}}

    async def accept(_request: Any) -> Any:
        return reply(202, {"operation_id": "op-0"})

    service.on["POST /optim_step"] = accept
    await (await training.optim_step_async(AdamParams()))
    assert training.last_policy_version is None


@pytest.mark.parametrize(("said", "version"), [({"policy_version": 7}, 7), (7, 7)])
async def test_the_version_in_either_form(
    training: TrainingClient, service: Any, reply: Any, said: Any, version: int
) -> None:
    async def answer(_request: Any) -> Any:
        return reply(200, said)

    service.on["GET /policy_version"] = answer
    assert await training.policy_version_async() == version
    assert training.last_policy_version == version


@pytest.mark.parametrize("said", [{}, {"policy_version": "new"}, True, [1], {"policy_version": 1.5}, -1, "x" * 10**5])
async def test_a_version_that_is_none(training: TrainingClient, service: Any, reply: Any, said: Any) -> None:
    async def answer(_request: Any) -> Any:
        return reply(200, said)

    service.on["GET /policy_version"] = answer
    with pytest.raises(errors.ProtocolError, match="expected a policy version") as caught:
        await training.policy_version_async()
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("name", ["save_state", "save_weights_for_sampler"])
async def test_a_save(training: TrainingClient, service: Any, name: str) -> None:
    result = await (await getattr(training, f"{name}_async")("step-1", ttl_seconds=60))
    kind = "weights" if name == "save_state" else "sampler_weights"
    assert result.path == f"bt://loops:r1/{kind}/step-1"
    body = {"name": "step-1", "trainer_server_id": "r1", "run_id": "r1", "ttl_seconds": 60}
    assert service.last(f"POST /{name}").body == body


PATH = "bt://loops:r2/weights/step-5"


@pytest.mark.parametrize(("name", "version"), [("load_state", 0), ("load_state_with_optimizer", 5)])
async def test_a_load(training: TrainingClient, service: Any, name: str, version: int) -> None:
    result = await (await getattr(training, f"{name}_async")(PATH))
    assert result == LoadWeightsResponse(PATH, "load_weights", version)
    assert service.last(f"POST /{name}").body == {"path": PATH}
    assert training.last_policy_version == version
    await (await training.optim_step_async(AdamParams()))
    assert training.last_policy_version == version + 1


async def test_after_a_load_that_does_not_tell_the_version_none_is_known(
    training: TrainingClient, service: Any
) -> None:
    service.saved = {"policy_version": None}
    await (await training.optim_step_async(AdamParams()))
    await (await training.load_state_with_optimizer_async(PATH))
    assert training.last_policy_version is None


async def test_a_step_that_is_heard_of_after_the_load_behind_it_tells_nothing(
    training: TrainingClient, service: Any
) -> None:
    release = asyncio.Event()

    async def late(_request: Any) -> Any:
        await release.wait()

    service.on["GET /operations/op-0"] = late
    step = await training.optim_step_async(AdamParams())
    await (await training.load_state_async(PATH))
    assert training.last_policy_version == 0
    release.set()
    assert (await step).metrics["step"] == 1
    assert training.last_policy_version == 0


async def test_a_checkpoint_that_is_not_there(training: TrainingClient, service: Any, reply: Any) -> None:
    async def refuse(_request: Any) -> Any:
        return reply(404, {"detail": f"there is no checkpoint {PATH}"})

    service.on["POST /load_state"] = refuse
    with pytest.raises(errors.NotFoundError, match=f"there is no checkpoint {PATH}"):
        await training.load_state_async(PATH)


async def test_starting_over_with_another_rank(training: TrainingClient, service: Any) -> None:
    await (await training.optim_step_async(AdamParams()))
    started = await training.init_trainer_server_async(8)
    assert await started == InitTrainerServerResponse(8)
    assert service.last("POST /init_trainer_server").body == {"lora_rank": 8}
    assert training.get_info() == GetInfoResponse("acme/model", 8)
    assert training.last_policy_version == await training.policy_version_async() == 0


ASKED = {"lora_alpha": 16, "seed": 3, "train_attn": True, "train_mlp": False, "train_unembed": False}


def telling(service: Any, reply: Any, **told: Any) -> None:
    """Have the trainer say of a fresh adapter what `told` holds."""

    async def start_over(_request: Any) -> Any:
        service.steps, service._operations["fresh"] = 0, {"lora_rank": 8, **told}
        return reply(202, {"operation_id": "fresh"})

    service.on["POST /init_trainer_server"] = start_over


async def test_starting_over_with_everything_said(training: TrainingClient, service: Any, reply: Any) -> None:
    telling(service, reply, **ASKED)
    assert await (await training.init_trainer_server_async(8, **ASKED)) == InitTrainerServerResponse(8, **ASKED)
    assert service.last("POST /init_trainer_server").body == {"lora_rank": 8, **ASKED}


@pytest.mark.parametrize("name", ["lora_alpha", "train_attn", "train_mlp", "train_unembed"])
@pytest.mark.parametrize("told", ["nothing", "other"])
async def test_what_the_trainer_does_not_confirm_is_not_taken_as_done(
    training: TrainingClient, service: Any, reply: Any, name: str, told: str
) -> None:
    other = 17 if name == "lora_alpha" else not ASKED[name]
    telling(service, reply, **({**ASKED, name: other} if told == "other" else {**ASKED, name: None}))
    await (await training.optim_step_async(AdamParams()))
    future = await training.init_trainer_server_async(8, **ASKED)
    said = f"says {other!r}" if told == "other" else "does not confirm it"
    for _ in range(2):
        with pytest.raises(errors.UnsupportedError, match=f"^{name}: {ASKED[name]!r} was asked for, .* {said}"):
            await future
    assert training.get_info().lora_rank == 8  # the adapter is a fresh one all the same
    assert training.last_policy_version == 0


async def test_a_seed_may_be_kept_but_not_exchanged(training: TrainingClient, service: Any, reply: Any) -> None:
    telling(service, reply, **{**ASKED, "seed": None})
    assert (await (await training.init_trainer_server_async(8, **ASKED))).seed is None
    telling(service, reply, **{**ASKED, "seed": 4})
    with pytest.raises(errors.UnsupportedError, match=r"^seed: 3 was asked for, but the trainer says 4"):
        await (await training.init_trainer_server_async(8, **ASKED))


async def test_the_rank_is_that_of_the_last_call_whichever_result_comes_last(
    training: TrainingClient, service: Any
) -> None:
    release = asyncio.Event()

    async def late(_request: Any) -> Any:
        await release.wait()

    service.on["GET /operations/op-0"] = late
    first, second = await training.init_trainer_server_async(8), await training.init_trainer_server_async(16)
    assert training.get_info().lora_rank == 32  # the trainer has not said that it is done
    await second
    release.set()
    assert (await first).lora_rank == 8
    assert training.get_info().lora_rank == 16


async def test_starting_over_that_fails_leaves_the_rank(training: TrainingClient, service: Any, reply: Any) -> None:
    async def fail(_request: Any) -> Any:
        return reply(200, {"status": "error", "error": "no memory", "error_class": "RuntimeError"})

    service.on["GET /operations/op-0"] = fail
    with pytest.raises(errors.RemoteOpError, match="no memory"):
        await (await training.init_trainer_server_async(8))
    assert training.get_info().lora_rank == 32


WRONG: dict[str, tuple[str, tuple[Any, ...], str]] = {
    "no list": ("forward", (DATUM,), r"^data: expected a list of Datum, got Datum; one of them is \[datum\]$"),
    "empty": ("forward", ([],), r"^data: expected at least one Datum, got an empty list$"),
    "other": ("forward_backward", ([DATUM, {"a": 1}],), r"^data\[1\]: expected Datum, got dict$"),
    "a generator": ("forward", ((one for one in [DATUM]),), r"^data: expected a list of Datum, got generator$"),
    "loss": ("forward", ([DATUM], "mse"), r"^loss_fn: expected one of cross_entropy, .*, got 'mse'$"),
    "config": ("forward", ([DATUM], "ppo", [1]), r"^loss_fn_config: expected a dict or None, got list$"),
    "config value": ("forward", ([DATUM], "ppo", {"a": object()}), r"^loss_fn_config: expected plain data"),
    "config key": ("forward", ([DATUM], "ppo", {1: 2}), r"^loss_fn_config: expected plain data"),
    "adam": (
        "optim_step",
        ({"learning_rate": 1},),
        r"^adam_params: expected AdamParams, for example .*, got dict$",
    ),
    "name": ("save_state", ("../x",), r"^name: expected 1 to 255 letters"),
    "ttl": ("save_state", ("x", 0), r"^ttl_seconds: expected a value >= 1, got 0$"),
    "publish name": ("save_weights_and_get_sampling_client", ("a b",), r"^name: expected 1 to 255 letters"),
    "path": ("create_sampling_client", ("step-1",), r"^model_path: expected bt://loops:"),
    "kind": ("create_sampling_client", ("bt://loops:r1/weights/x",), r"^model_path: expected sampler_weights"),
    "run": ("create_sampling_client", ("bt://loops:r2/sampler_weights/x",), r"^model_path: .* serves run r1"),
    "rank": ("init_trainer_server", (0,), r"^lora_rank: expected a value >= 1, got 0$"),
    "no rank": ("init_trainer_server", (None,), r"^lora_rank: expected a whole number, got None$"),
    "load path": ("load_state", ("step-1",), r"^path: expected bt://loops:.*, got 'step-1'$"),
    "load kind": ("load_state", ("bt://loops:r1/sampler_weights/x",), r"^path: expected weights, which trainers load"),
    "load nothing": ("load_state_with_optimizer", (None,), r"^path: expected bt://loops:.*, got None$"),
    "load name": ("load_state_with_optimizer", ("bt://loops:r1/weights/.x",), r"^path: expected 1 to 255 letters"),
    "checkpoints": ("list_checkpoints", (), r"^list_checkpoints: this client knows no control plane"),
    "archive": ("get_checkpoint_archive_url", ("id",), r"^get_checkpoint_archive_url: this client knows no control"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_arguments_are_checked_before_anything_is_sent(training: TrainingClient, service: Any, name: str) -> None:
    method, arguments, message = WRONG[name]
    with pytest.raises(errors.InvalidInputError, match=message):
        await getattr(training, f"{method}_async")(*arguments)
    assert service.asked == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_alpha": 0}, r"^lora_alpha: expected a value >= 1, got 0$"),
        ({"lora_alpha": 0.5}, r"^lora_alpha: expected a whole number, got 0.5$"),
        ({"seed": -1}, r"^seed: expected a value >= 0, got -1$"),
        ({"train_mlp": 1}, r"^train_mlp: expected True, False or None, got 1$"),
        (
            dict.fromkeys(("train_attn", "train_mlp", "train_unembed"), False),
            r"^train_attn, train_mlp, .* all are False",
        ),
    ],
)
async def test_what_an_adapter_cannot_be(
    training: TrainingClient, service: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(errors.InvalidInputError, match=message):
        await training.init_trainer_server_async(8, **options)
    assert service.asked == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainer_url": "localhost:1"}, r"^trainer_url: expected an http:// or https:// address"),
        ({"lora_rank": 0}, r"^lora_rank: expected a value >= 1"),
        ({"base_model": ""}, r"^base_model: "),
        ({"timeout": -1}, r"^timeout: expected a value > 0"),
        ({"ready_timeout": 0}, r"^ready_timeout: expected a value > 0"),
        ({"publish_timeout": 0}, r"^publish_timeout: expected a value > 0"),
        ({"run_id": "../r"}, r"^run_id: expected 1 to 255 letters"),
        ({"max_seq_len": 0}, r"^max_seq_len: expected a value >= 1"),
        ({"paired_sampling_deployment": "http://x"}, r"^paired_sampling_deployment: expected LocalDeployment"),
    ],
)
def test_wrong_arguments_of_the_client(options: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.InvalidInputError, match=message):
        TrainingClient(**{"trainer_url": "http://127.0.0.1:9", "base_model": "acme/model", **options})


async def test_a_config_that_changes_after_the_call_is_sent_as_it_was(training: TrainingClient, service: Any) -> None:
    config = {"clip": [1, 2]}
    call = asyncio.create_task(training.forward_async([DATUM], "ppo", config))
    await asyncio.sleep(0)
    config["clip"].append(3)
    await call
    assert service.last("POST /forward").body["loss_fn_config"] == {"clip": [1, 2]}


async def test_calls_of_all_kinds_keep_their_order(training: TrainingClient, service: Any) -> None:
    futures: list[Any] = await asyncio.gather(
        training.forward_backward_async([DATUM] * 2),
        training.optim_step_async(AdamParams()),
        training.save_weights_for_sampler_async("a"),
        training.forward_async([DATUM]),
        training.save_state_async("b"),
    )
    await asyncio.gather(*(future.result_async() for future in futures))
    assert service.lines("POST") == [
        "POST /forward_backward",
        "POST /optim_step",
        "POST /save_weights_for_sampler",
        "POST /forward",
        "POST /save_state",
    ]


async def test_a_client_from_an_address(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BASETEN_API_KEY")
    made = TrainingClient(
        service.trainer,
        lora_rank=8,
        base_model="acme/model",
        timeout=20.0,
        ready_timeout=0.2,
        run_id="r7",
        paired_sampling_deployment=LocalDeployment(service.sampler),
        max_seq_len=64,
        publish_timeout=0.1,
        api_key=lambda: KEY,
    )
    async with made as training:
        assert training.get_info() == GetInfoResponse(base_model="acme/model", lora_rank=8, max_seq_len=64)
        assert service.asked == []
        await (await training.optim_step_async(AdamParams()))
        assert service.last("POST /optim_step").headers["Authorization"] == f"Bearer {KEY}"
        publishing = await training.save_weights_and_get_sampling_client_async("a")
        assert service.last("POST /save_weights_for_sampler").body["run_id"] == "r7"
        with pytest.raises(errors.WeightsNotReadyError, match=r"version 1 within 0.1 s"):
            await publishing
        service.publish()
        assert (await (await publishing).sample_async([1])).policy_version == 1


async def test_facts_without_network(training: TrainingClient, service: Any) -> None:
    assert (training.run_id, training.get_info().lora_rank) == ("r1", 32)
    assert repr(training).startswith(f"<TrainingClient acme/model run=r1 <Channel {service.trainer} open")
    await training.health_async()
    assert service.lines() == ["GET /health"]


async def test_an_unhealthy_trainer(training: TrainingClient, service: Any, reply: Any) -> None:
    async def broken(_request: Any) -> Any:
        return reply(501, {"detail": "GPU lost"})

    service.on["GET /health"] = broken
    with pytest.raises(errors.ServerFailureError, match="GPU lost"):
        await training.health_async()


async def test_a_trainer_that_cannot_be_reached() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        async with TrainingClient(url, base_model="acme/model") as training:
            with pytest.raises(errors.ConnectionFailedError, match=f"no server answers at {url}") as caught:
                await training.health_async()
    assert caught.value.operation == "health"


USES: dict[str, tuple[Any, ...]] = {
    "forward_async": ([DATUM],),
    "forward_backward_async": ([DATUM],),
    "forward_backward_custom_async": ([DATUM], lambda *_: None),
    "optim_step_async": (AdamParams(),),
    "save_state_async": ("x",),
    "save_weights_for_sampler_async": ("x",),
    "save_weights_and_get_sampling_client_async": ("x",),
    "load_state_async": (PATH,),
    "load_state_with_optimizer_async": (PATH,),
    "init_trainer_server_async": (8,),
    "resume_operation_async": ("optim_step", "an-id"),
    "list_operations_async": (),
    "create_sampling_client_async": ("bt://loops:r1/sampler_weights/a",),
    "list_checkpoints_async": (),
    "get_checkpoint_archive_url_async": ("id",),
    "policy_version_async": (),
    "health_async": (),
}


async def test_everything_after_close_says_closed(training: TrainingClient, service: Any) -> None:
    publishing = await training.save_weights_and_get_sampling_client_async("a")
    await asyncio.gather(training.aclose(), training.aclose())
    await training.aclose()
    asked = service.lines()
    for name, arguments in USES.items():
        with pytest.raises(errors.ClientClosedError):
            await getattr(training, name)(*arguments)
    with pytest.raises(errors.ClientClosedError):
        await publishing.result_async()
    assert service.lines() == asked


async def test_closed_by_its_service_it_says_closed_too(client: ServiceClient, service: Any) -> None:
    training = await started(client)
    await client.aclose()
    asked = service.lines()
    for name, arguments in USES.items():
        with pytest.raises(errors.ClientClosedError):
            await getattr(training, name)(*arguments)
    assert service.lines() == asked


def test_no_operation_is_left_out() -> None:
    coroutines = {name for name, _ in inspect.getmembers(TrainingClient, inspect.iscoroutinefunction)}
    public = {name for name in coroutines if not name.startswith("_")}
    assert public == {*USES, "aclose", "get_tokenizer_async"}


# ---------------------------------------------------------------- publishing


async def test_publishing_gives_a_pinned_client_once_the_sampler_has_it(training: TrainingClient, service: Any) -> None:
    looked = asyncio.Event()

    async def swap_in_later(_request: Any) -> Any:
        if len(service.lines(MODELS)) == 3:
            service.publish()
        looked.set()

    service.on[MODELS] = swap_in_later
    await (await training.optim_step_async(AdamParams()))
    future = await training.save_weights_and_get_sampling_client_async("step-1")
    assert service.lines(MODELS) == []  # nothing is watched before somebody asks
    first, second = await asyncio.gather(future.result_async(), future.result_async())
    assert first is second is await future
    assert isinstance(first, SamplingClient)
    assert first.min_policy_version == 1
    assert (await first.sample_async([1])).policy_version == 1
    assert service.last(COMPLETIONS).headers["X-Min-Policy-Version"] == "1"
    await first.aclose()
    await training.health_async()  # the connections are the training client's


async def test_version_0_is_the_base_and_not_waited_for(training: TrainingClient, service: Any) -> None:
    client = await (await training.save_weights_and_get_sampling_client_async("start"))
    assert service.lines(MODELS) == []
    assert client.min_policy_version == 0
    assert (await client.sample_async([1])).policy_version == 0


async def test_a_sampler_that_never_follows(training: TrainingClient, service: Any) -> None:
    await (await training.optim_step_async(AdamParams()))
    service.publish(0)
    future = await training.save_weights_and_get_sampling_client_async("step-1")
    with pytest.raises(
        errors.WeightsNotReadyError, match=r"version 1 within 0.5 s; the last one showed version 0"
    ) as e:
        await future
    assert isinstance(e.value, RuntimeError)
    service.publish(1)
    assert (await future).min_policy_version == 1  # asking again watches again


def test_the_sampler_has_ten_minutes_unless_told_otherwise() -> None:
    for made in (TrainingClient, ServiceClient.create_lora_training_client_async):
        assert inspect.signature(made).parameters["publish_timeout"].default == 600.0


async def test_the_time_to_publish_is_not_that_of_the_wait(client: ServiceClient, service: Any) -> None:
    training = await started(client, publish_timeout=0.2)
    await (await training.optim_step_async(AdamParams()))
    future = await training.save_weights_and_get_sampling_client_async("step-1")
    with pytest.raises(errors.WeightsNotReadyError, match=r"version 1 within 0.2 s; the last one showed no adapter"):
        await future.result_async(timeout=600.0)


async def test_the_second_stage_outlives_a_short_timeout(training: TrainingClient, service: Any) -> None:
    await (await training.optim_step_async(AdamParams()))
    future = await training.save_weights_and_get_sampling_client_async("step-1")
    with pytest.raises(errors.RequestTimeoutError):
        await future.result_async(timeout=0.05)
    service.publish()
    assert (await future).min_policy_version == 1


async def test_a_trainer_that_does_not_tell_the_version_is_asked(training: TrainingClient, service: Any) -> None:
    service.saved = {"policy_version": None}
    await (await training.optim_step_async(AdamParams()))
    service.publish()
    client = await (await training.save_weights_and_get_sampling_client_async("step-1"))
    assert client.min_policy_version == 1
    assert "GET /policy_version" in service.lines()


async def test_close_ends_a_wait_for_the_sampler(training: TrainingClient, service: Any) -> None:
    await (await training.optim_step_async(AdamParams()))
    looked = asyncio.Event()

    async def look(_request: Any) -> Any:
        looked.set()

    service.on[MODELS] = look
    future = await training.save_weights_and_get_sampling_client_async("step-1")
    wait = asyncio.create_task(future.result_async())
    await looked.wait()
    await training.aclose()
    with pytest.raises(errors.ClientClosedError):
        await wait


async def test_a_trainer_without_a_paired_sampler_says_so(service: Any) -> None:
    async with TrainingClient(service.trainer, base_model="acme/model") as training:
        future = await training.save_weights_and_get_sampling_client_async("a")
        with pytest.raises(errors.InvalidInputError, match=r"^paired_sampling_deployment: "):
            await future


# ---------------------------------------------------------------- sampling from a path


async def test_a_path_that_the_sampler_lists(training: TrainingClient, service: Any) -> None:
    path = "bt://loops:r1/sampler_weights/step-1"
    service.models.append({"id": path, "parent": "/models/base"})
    client = await training.create_sampling_client_async(path)
    await client.sample_async([1])
    assert service.last(COMPLETIONS).body["model"] == path


async def test_the_path_that_was_published_last(training: TrainingClient, service: Any) -> None:
    await (await training.optim_step_async(AdamParams()))
    saved = await (await training.save_weights_for_sampler_async("step-1"))
    client = await training.create_sampling_client_async(saved.path)
    assert client.min_policy_version == 1
    service.publish()
    await client.sample_async([1])
    assert service.last(COMPLETIONS).body["model"] == "adapter"


async def test_the_path_of_a_save_whose_result_comes_late(training: TrainingClient, service: Any) -> None:
    release = asyncio.Event()

    async def late(_request: Any) -> Any:
        await release.wait()

    service.on["GET /operations/op-0"] = late
    old = await training.save_weights_for_sampler_async("old")
    new = await (await training.save_weights_for_sampler_async("new"))
    release.set()
    await old
    await training.create_sampling_client_async(new.path)


async def test_a_path_nobody_knows(training: TrainingClient, service: Any) -> None:
    saved = await (await training.save_weights_for_sampler_async("old"))
    await (await training.save_weights_for_sampler_async("new"))
    with pytest.raises(errors.WeightsNotReadyError, match="it follows the weights last published") as caught:
        await training.create_sampling_client_async(saved.path)
    assert caught.value.run_id == "r1"


# ---------------------------------------------------------------- the paired sampler of a run


async def started(client: ServiceClient, **options: Any) -> TrainingClient:
    return await client.create_lora_training_client_async("acme/model", **options)


async def publish(training: TrainingClient) -> OperationFuture[Any]:
    return await training.save_weights_for_sampler_async("a")


async def sampler_of(training: TrainingClient) -> SamplingClient:
    return await training.create_sampling_client_async((await (await publish(training))).path)


async def test_the_sampler_is_made_once_on_first_need(client: ServiceClient, service: Any) -> None:
    service.sampler_status = ["DEPLOYING", "LOADING_MODEL", "A_NEW_WORD", "ACTIVE"]
    training = await started(client, max_seq_len=64)
    assert service.lines("POST /v1/loops/samplers") == []
    await asyncio.gather(*(sampler_of(training) for _ in range(3)))
    assert service.lines("POST /v1/loops/samplers") == ["POST /v1/loops/samplers"]
    assert service.last("POST /v1/loops/samplers").body == {"session_id": "s1", "run_id": "r1", "max_seq_length": 64}


async def test_a_sampler_that_is_there_is_taken_and_trusted_with_the_key(client: ServiceClient, service: Any) -> None:
    training = await started(client, with_sampler=True)
    sampling = await sampler_of(training)
    assert (await sampling.sample_async([1])).sequences
    assert service.lines("POST /v1/loops/samplers") == []


async def test_a_lost_answer_is_looked_up_on_the_run(client: ServiceClient, service: Any, reply: Any) -> None:
    async def lose(_request: Any) -> Any:
        service.sampler_made = True
        return reply(504)

    service.on["POST /v1/loops/samplers"] = lose
    await sampler_of(await started(client))
    assert service.lines("POST /v1/loops/samplers") == ["POST /v1/loops/samplers"]


@pytest.mark.parametrize("state", ["BUILD_FAILED", "INACTIVE", "UNHEALTHY"])
async def test_a_sampler_that_will_not_come_up(client: ServiceClient, service: Any, state: str) -> None:
    service.sampler_status = ["DEPLOYING", "DEPLOYING", state]
    training = await started(client)
    with pytest.raises(
        errors.DeploymentFailedError, match=f"the sampler sam1 is {state} and will not come up"
    ) as caught:
        await sampler_of(training)
    assert (caught.value.session_id, caught.value.run_id) == ("s1", "r1")


async def test_a_sampler_that_takes_too_long(client: ServiceClient, service: Any) -> None:
    service.sampler_status = ["DEPLOYING"]
    training = await started(client, ready_timeout=0.2)
    with pytest.raises(errors.RequestTimeoutError, match=r"the sampler sam1 was not ready within 0.2 s") as caught:
        await sampler_of(training)
    assert (caught.value.session_id, caught.value.run_id) == ("s1", "r1")
    service.sampler_status = ["ACTIVE"]
    await sampler_of(training)  # the next one who needs it waits anew


async def test_who_is_cancelled_while_the_sampler_comes_up_does_not_take_it_from_others(
    client: ServiceClient, service: Any
) -> None:
    service.sampler_status = ["DEPLOYING"]
    training = await started(client)
    path = (await (await publish(training))).path
    arrived = asyncio.Event()

    async def look(_request: Any) -> Any:
        arrived.set()

    service.on["GET /v1/loops/samplers/sam1"] = look
    first, second = (asyncio.create_task(training.create_sampling_client_async(path)) for _ in range(2))
    await arrived.wait()
    first.cancel()
    service.sampler_status = ["ACTIVE"]
    assert isinstance(await second, SamplingClient)
    with pytest.raises(asyncio.CancelledError):
        await first
    assert service.lines("POST /v1/loops/samplers") == ["POST /v1/loops/samplers"]


async def test_checkpoints_of_its_run(client: ServiceClient, service: Any) -> None:
    training = await started(client)
    (found,) = await training.list_checkpoints_async()
    assert found.run_id == "r1"


async def test_files_of_a_checkpoint(client: ServiceClient, service: Any, reply: Any) -> None:
    async def files(_request: Any) -> Any:
        page = {
            "url": "https://x/a",
            "relative_file_name": "a",
            "node_rank": 0,
            "size_bytes": 1,
            "last_modified": "2026-01-01T00:00:00Z",
        }
        return reply(200, {"presigned_urls": [page], "next_page_token": 30, "total_count": 40})

    service.on["GET /v1/loops/checkpoints/id-1/files"] = files
    training = await started(client)
    page = await training.get_checkpoint_archive_url_async("id-1", page_size=10, page_token=20)
    assert (page.next_page_token, page.total_count, page.presigned_urls[0].url) == (30, 40, "https://x/a")
    asked = service.last("GET /v1/loops/checkpoints/id-1/files")
    assert asked.body == {"page_size": "10", "page_token": "20"}


async def test_closing_one_training_client_leaves_the_service(client: ServiceClient, service: Any) -> None:
    first, second = await started(client), await started(client)
    await first.aclose()
    with pytest.raises(errors.ClientClosedError):
        await first.health_async()
    await second.health_async()


async def test_a_closed_client_does_not_publish_on_over_the_service(client: ServiceClient, service: Any) -> None:
    training = await started(client)
    publishing = await training.save_weights_and_get_sampling_client_async("a")
    await (await publish(training))  # by now the first stage has finished too
    await training.aclose()
    with pytest.raises(errors.ClientClosedError):
        await publishing


# ---------------------------------------------------------------- what observers hear


async def test_the_numbers_of_every_result_reach_observers(service: Any) -> None:
    heard: list[Event] = []
    async with ServiceClient(base_url=service.control, observers=[heard.append]) as client:
        training = await client.create_lora_training_client_async("acme/model")
        for call in (
            training.forward_async([DATUM]),
            training.forward_backward_async([DATUM, DATUM]),
            training.optim_step_async(AdamParams(learning_rate=0.25)),
            training.forward_async([DATUM]),
        ):
            await (await call)
    measured = [event for event in heard if isinstance(event, OperationMeasured)]
    assert [(event.operation, event.steps, event.loss, event.tokens, event.policy_version) for event in measured] == [
        ("forward", 0, 1.5, 2, None),
        ("forward_backward", 0, 1.5, 4, None),
        ("optim_step", 0, None, None, 1),
        ("forward", 1, 1.5, 2, 1),
    ]
    assert measured[1].metrics == {"loss:sum": 1.5}
    assert measured[2].metrics == {"learning_rate": 0.25, "step": 1.0, "grad_norm": 1.0}
    assert all(event.run_id == "r1" and 0 < event.elapsed < 60 for event in measured)


async def test_a_pass_belongs_to_the_step_that_was_called_after_it(training: TrainingClient, service: Any) -> None:
    heard: list[Event] = []
    training._meter.emit = heard.append
    one, step, two = await asyncio.gather(
        training.forward_backward_async([DATUM]),
        training.optim_step_async(AdamParams()),
        training.forward_backward_async([DATUM]),
    )
    await asyncio.gather(two, step, one)
    steps = {(event.operation, event.steps) for event in heard if isinstance(event, OperationMeasured)}
    assert steps == {("forward_backward", 0), ("optim_step", 0), ("forward_backward", 1)}
