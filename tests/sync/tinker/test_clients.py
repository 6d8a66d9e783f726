"""The clients of the Tinker namespace against real servers: as scripts use them, and what they refuse."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import loops_sdk
import loops_sdk_sync.tinker as tinker
from loops_sdk.local import LocalStack
from loops_sdk_sync.tinker import types

from ..conftest import MODEL

ADAM = types.AdamParams(learning_rate=0.1)
PROMPT = types.ModelInput.from_ints([1, 3, 4])
GREEDY = types.SamplingParams(max_tokens=3, temperature=0.0)


def datum(**inputs: Any) -> types.Datum:
    return types.Datum(PROMPT, {"target_tokens": [3, 4, 5], "weights": [0.0, 1.0, 1.0], **inputs})


@pytest.fixture(scope="module")
def service(stack: LocalStack) -> Iterator[tinker.ServiceClient]:
    with tinker.ServiceClient() as client:
        yield client


@pytest.fixture(scope="module")
def training(service: tinker.ServiceClient) -> tinker.TrainingClient:
    return service.create_lora_training_client(base_model=MODEL, rank=4).result(60)


# ---------------------------------------------------------------- as scripts use them


def test_a_script_that_blocks(training: tinker.TrainingClient) -> None:
    passed = training.forward_backward([datum()], loss_fn="cross_entropy")
    stepped = training.optim_step(ADAM)
    output = passed.result(60)
    assert isinstance(output, types.ForwardBackwardOutput)
    assert len(output.loss_fn_outputs[0]["logprobs"].tolist()) == 3
    assert all(name.count(":") == 1 for name in output.metrics)
    assert "loss:sum" in output.metrics
    assert (stepped.result(60).metrics or {})["step:mean"] >= 1
    saved = training.save_state("here", ttl_seconds=600).result(60)
    assert saved.path == f"tinker://{training.model_id}/weights/here"
    assert training.load_state(saved.path).result(60).path == saved.path
    assert training.load_state_with_optimizer(saved.path).result(60).path == saved.path


def test_a_program_on_a_loop_calls_without_awaiting_and_awaits_later(training: tinker.TrainingClient) -> None:
    async def program() -> list[Any]:
        futures = [
            training.forward_backward([datum()], "cross_entropy"),
            training.forward([datum()], "cross_entropy"),
            training.optim_step(adam_params=ADAM),
        ]
        return [await future for future in futures]

    first, second, stepped = asyncio.run(program())
    with pytest.raises(tinker.RequestFailedError):  # the step has taken all that was accumulated
        training.optim_step(ADAM).result(60)
    assert first.metrics.keys() == second.metrics.keys()
    again = asyncio.run(program())[2]
    assert again.metrics["step:mean"] == stepped.metrics["step:mean"] + 1


def test_older_scripts_use_the_future_of_a_client_as_the_client(service: tinker.ServiceClient) -> None:
    training = service.create_lora_training_client(MODEL, rank=4)
    assert isinstance(training, tinker.TrainingClient)
    assert training.get_info().model_data.model_name == MODEL
    assert training.forward([datum()], "cross_entropy").result(60).loss_fn_outputs
    sampling = training.save_weights_and_get_sampling_client()
    assert isinstance(sampling, tinker.SamplingClient)
    assert len(sampling.sample(PROMPT, 1, GREEDY).result(60).sequences[0].tokens) == 3
    assert training.model_id == training.result().model_id


async def test_coroutines_give_futures_for_operations_and_values_otherwise(stack: LocalStack) -> None:
    with tinker.ServiceClient() as service:
        training = await service.create_lora_training_client_async(MODEL, rank=4)
        passed = await training.forward_backward_async([datum()], "cross_entropy")
        assert (await passed.result_async(60)).loss_fn_outputs
        await (await training.optim_step_async(ADAM))
        sampling = await training.save_weights_and_get_sampling_client_async(name="ignored")
        sampled = await sampling.sample_async(PROMPT, 2, GREEDY, include_prompt_logprobs=True, topk_prompt_logprobs=2)
        assert [one.stop_reason for one in sampled.sequences] == ["length", "length"]
        assert sampled.sequences[0].sequence_id != sampled.sequences[1].sequence_id
        assert sampled.prompt_cache_hit_tokens == 0
        scores = sampled.prompt_logprobs or []
        assert (scores[0], len(scores)) == (None, 3)
        topk = sampled.topk_prompt_logprobs or []
        assert (topk[0], len(topk)) == (None, 3)
        last = await sampling.sample_async(PROMPT, 1, GREEDY, True, prompt_logprobs_last_n=1)
        assert last.prompt_logprobs == [None, None, scores[2]]
        assert await sampling.compute_logprobs_async(PROMPT) == scores
        assert (await asyncio.gather(sampling.compute_logprobs(PROMPT, 1).coroutine()))[0] == [None, None, scores[2]]
        assert await sampling.get_base_model_async() == sampling.get_base_model() == MODEL


def test_a_snapshot_keeps_its_weights_and_an_inflight_client_follows(training: tinker.TrainingClient) -> None:
    def step() -> None:
        training.forward_backward([datum()], "cross_entropy").result(60)
        training.optim_step(ADAM).result(60)

    def version(client: tinker.SamplingClient) -> int | None:
        core = client._client
        return core.sample(
            loops_sdk.ModelInput.from_ints([1]), 1, loops_sdk.SamplingParams(max_tokens=1)
        ).policy_version

    step()
    snapshot = training.save_weights_and_get_sampling_client().result(60)
    follows = training.save_weights_and_get_sampling_client(kind="inflight").result(60)
    before = version(snapshot)
    assert version(follows) == before
    step()
    saved = training.save_weights_for_sampler("newer").result(60)
    newer = training.create_sampling_client(saved.path).result(60)
    assert version(newer) == (before or 0) + 1
    assert version(follows) == version(newer)
    assert version(snapshot) == before
    # A sampler that shows the newest weights only: what was a frozen reference is none any more.
    moved = tinker.SamplingClient(follows._client, before)
    with pytest.raises(
        tinker.TinkerError, match=f"weights of policy version {before}, and its sampler.* serves version"
    ):
        moved.compute_logprobs(PROMPT).result(60)
    assert tinker.SamplingClient(follows._client, version(newer)).compute_logprobs(PROMPT).result(60)


def test_a_checkpoint_of_another_program_gets_a_sampler_and_a_trainer_of_its_own(
    training: tinker.TrainingClient, service: tinker.ServiceClient
) -> None:
    adapter = training.save_weights_for_sampler("kept").result(60).path
    state = training.save_state("kept").result(60).path
    own = service.create_sampling_client(model_path=adapter).result(60)
    assert own._client.sampler_id == training.create_sampling_client(adapter).result(60)._client.sampler_id
    with tinker.ServiceClient() as other:
        sampling = other.create_sampling_client(model_path=adapter).result(60)
        assert sampling._client.sampler_id != own._client.sampler_id
        assert sampling.sample(PROMPT, 1, GREEDY).result(60).sequences[0].logprobs
        resumed = other.create_training_client_from_state_with_optimizer(state).result(60)
        assert resumed.model_id != training.model_id
        assert other.create_training_client_from_state(state).get_info().lora_rank == 4


def test_a_loss_of_ones_own_keeps_the_names_of_its_metrics(training: tinker.TrainingClient) -> None:
    pytest.importorskip("torch")
    data = [datum(), datum()]

    def loss(given: Any, logprobs: Any) -> Any:
        assert given is data
        return sum(-one.sum() for one in logprobs), {"margin": 0.5, "half:mean": 1.0}

    metrics = training.forward_backward_custom(data, loss).result(60).metrics
    assert (metrics["margin"], metrics["half:mean"]) == (0.5, 1.0)
    assert "loss:sum" in metrics


# ---------------------------------------------------------------- what there is


def test_rest(service: tinker.ServiceClient, training: tinker.TrainingClient) -> None:
    training.save_weights_for_sampler("looked-at").result(60)
    state = training.save_state("looked-at").result(60).path
    rest = service.create_rest_client()
    run = rest.get_training_run_by_tinker_path(state).result(60)
    assert (run.training_run_id, run.base_model, run.is_lora) == (training.model_id, MODEL, True)
    assert run.user_metadata is None
    assert run.last_checkpoint is not None
    assert run.last_checkpoint.tinker_path == state
    listed = rest.list_checkpoints(training.model_id).result(60).checkpoints
    assert ("weights/looked-at", "training") in [(one.checkpoint_id, one.checkpoint_type) for one in listed]
    page = rest.list_training_runs(limit=1).result(60)
    assert len(page.training_runs) == 1
    assert page.cursor.total_count >= 1
    newest = rest.list_user_checkpoints(limit=2).result(60)
    assert len(newest.checkpoints) == 2
    assert rest.get_weights_info_by_tinker_path(state).result(60).base_model == MODEL
    assert [one.model_name for one in rest.get_server_capabilities().result(60).supported_models] == [MODEL]
    assert training.model_id in rest.get_session(service._client.session_id).result(60).training_run_ids
    with pytest.raises(tinker.NotFoundError):
        rest.get_training_run("nobody").result(60)
    with pytest.raises(tinker.NotFoundError, match="no checkpoint"):
        rest.get_weights_info_by_tinker_path(f"tinker://{training.model_id}/weights/nothing").result(60)


async def test_looking_at_things_opens_no_session(stack: LocalStack) -> None:
    rest = tinker.RestClient()
    assert (await rest.list_training_runs()).cursor.offset == 0
    with pytest.raises(loops_sdk.LoopsError, match="session is not open"):
        _ = rest._client.session_id


# ---------------------------------------------------------------- refusals and warnings


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda t, s: t.forward_backward([datum()], "stable_reinforce"), 'stable_reinforce.*loss_fn="ppo"'),
        (lambda t, s: t.forward_backward([datum()], "gspo"), "gspo"),
        (lambda t, s: t.optim_step(types.DimuonParams(learning_rate=1.0)), "DimuonParams"),
        (lambda t, s: t.save_weights_external("x"), "save_weights_external"),
        (lambda t, s: t.create_sampling_client(f"tinker://{t.model_id}/sampler_weights/a", None, True), "stable_rein"),
        (lambda t, s: t.get_console_url(), "get_console_url"),
        (lambda t, s: s.create_custom_loss(lambda logprobs: logprobs, {}), "forward_backward_custom"),
        (lambda t, s: s.create_rest_client().delete_checkpoint_from_tinker_path("x"), "ttl_seconds"),
        (lambda t, s: s.copy_weights("x"), "copy_weights"),
        (lambda t, s: s.create_rest_client().list_training_runs(project_id="p"), "project_id"),
        (lambda t, s: s.create_lora_training_client(MODEL, optimizer=types.DimuonOptimizerConfig()), "AdamW"),
        (lambda t, s: tinker.ServiceClient(default_headers_overrides={"a": "b"}), "default_headers_overrides"),
    ],
)
def test_what_loops_has_no_counterpart_of_is_refused_by_name(
    training: tinker.TrainingClient, service: tinker.ServiceClient, call: Any, named: str
) -> None:
    with pytest.raises(tinker.NotOfferedError, match=named) as caught:
        call(training, service)
    assert isinstance(caught.value, tinker.TinkerError | NotImplementedError)


async def test_the_second_form_of_a_refused_method_is_refused_too(service: tinker.ServiceClient) -> None:
    rest = service.create_rest_client()
    assert inspect.iscoroutinefunction(type(rest).delete_checkpoint_async)
    with pytest.raises(tinker.NotOfferedError, match="ttl_seconds"):
        await rest.delete_checkpoint_async("run", "weights/a")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda t: t.forward_backward([loops_sdk.Datum([1], {})], "ppo"),
            r"^data\[0\]: expected tinker.Datum, got loops_sdk.Datum",
        ),
        (
            lambda t: t.forward([types.Datum(PROMPT, {"weights": [1.0]})], "ppo"),
            r"^data\[0\]\.loss_fn_inputs\['weights",
        ),
        (lambda t: t.optim_step(), r"^optim_params: expected AdamParams"),
        (lambda t: t.load_state("here"), r"^tinker_path: expected tinker://"),
        (lambda t: t.load_state(5), r"^path: expected a tinker:// path, got int"),
        (lambda t: t.save_weights_and_get_sampling_client(kind="frozen"), r"^kind: expected 'snapshot' or 'inflight'"),
        (lambda t: t.forward_backward_custom([datum()], len, loss_type_input="x"), r"^loss_type_input: expected"),
    ],
)
def test_bad_input_is_a_value_error_before_anything_is_sent(
    training: tinker.TrainingClient, call: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(training)
    assert training.forward([datum()], "cross_entropy").result(60).loss_fn_outputs  # it left no gap in the order


def test_bad_input_of_sampling(training: tinker.TrainingClient) -> None:
    sampling = training.save_weights_and_get_sampling_client().result(60)
    with pytest.raises(ValueError, match=r"^sampling_params: expected tinker.SamplingParams, got loops_sdk.Sam"):
        sampling.sample(PROMPT, 1, loops_sdk.SamplingParams())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"^prompt: expected tinker.ModelInput, got list"):
        sampling.sample([1], 1, GREEDY)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"^prompt_logprobs_last_n: expected 1 to 2"):
        sampling.compute_logprobs(PROMPT, 3)
    with pytest.raises(ValueError, match=r"^prompt_logprobs_last_n: needs include_prompt_logprobs"):
        sampling.sample(PROMPT, 1, GREEDY, prompt_logprobs_last_n=1)
    with pytest.raises(tinker.NotOfferedError, match=r"^stop=\[\]"):
        sampling.sample(PROMPT, 1, types.SamplingParams(stop=[]))
    with pytest.raises(tinker.NotOfferedError, match="topk_sample_logprobs"):
        sampling.sample(PROMPT, 1, GREEDY, topk_sample_logprobs=1)
    image = types.ModelInput(chunks=[types.ImageAssetPointerChunk(format="png", location="x")])
    with pytest.raises(tinker.NotOfferedError, match=r"prompt\.chunks\[0\]: ImageAssetPointerChunk"):
        sampling.sample(image, 1, GREEDY)


def test_a_warning_names_what_is_not_kept(stack: LocalStack) -> None:
    with pytest.warns(UserWarning, match=r"^user_metadata: Loops keeps no metadata") as caught:
        service = tinker.ServiceClient(user_metadata={"a": "b"})
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=r"^display_name: "):
        tinker.ServiceClient(display_name="x")
    with pytest.warns(FutureWarning, match="no arguments maxretries"):
        tinker.ServiceClient(maxretries=3)
    with pytest.warns(UserWarning, match=r"^retry_config: ") as caught:
        future = service.create_sampling_client(base_model=MODEL, retry_config=tinker.lib.retry_handler.RetryConfig())
    assert caught[0].filename == __file__
    future.result(60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tinker.ServiceClient(user_metadata={})


# ---------------------------------------------------------------- errors, ends, copies


def test_a_wrong_key_and_no_server(stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(tinker.AuthenticationError, match="key"):
        tinker.ServiceClient(api_key="wrong").create_lora_training_client(MODEL).result(60)
    with pytest.raises(tinker.APIConnectionError, match=r"127\.0\.0\.1:9"):
        tinker.RestClient(base_url="http://127.0.0.1:9").get_server_capabilities().result(60)
    monkeypatch.delenv("BASETEN_API_KEY")
    monkeypatch.setenv("TINKER_API_KEY", "of-another-company")
    with pytest.raises(ValueError, match="BASETEN_API_KEY"):
        tinker.ServiceClient()


def test_after_the_end(stack: LocalStack) -> None:
    with tinker.ServiceClient() as service:
        training = service.create_lora_training_client(MODEL, rank=4).result(60)
    with pytest.raises(RuntimeError, match="closed"):
        training.forward([datum()], "cross_entropy").result(60)
    with pytest.raises(RuntimeError, match="closed"):
        service.create_lora_training_client(MODEL).result(60)
    service.close("success").result(60)
    with pytest.raises(ValueError, match=r"^status: expected 'success'"):
        service.close("done")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_sampling_client_pickles_without_its_key(training: tinker.TrainingClient) -> None:
    sampling = training.save_weights_and_get_sampling_client()
    pickled = pickle.dumps(sampling)
    assert b"the-key" not in pickled
    copy = pickle.loads(pickled)
    assert type(copy) is tinker.SamplingClient
    assert copy.compute_logprobs(PROMPT).result(60) == sampling.compute_logprobs(PROMPT).result(60)


def test_cancelling_a_queued_operation_holds_nothing_up(training: tinker.TrainingClient) -> None:
    training.forward_backward([datum()], "cross_entropy").result(60)
    queued = [training.forward([datum()], "cross_entropy") for _ in range(8)]
    for future in queued[::2]:
        future.cancel()
    stepped = training.optim_step(ADAM)
    assert stepped.result(60).metrics
    assert [len(future.result(60).loss_fn_outputs) for future in queued[1::2]] == [1] * 4


def test_names_left_out_say_why() -> None:
    with pytest.raises(AttributeError, match=r"tinker\.AdminClient is left out on purpose: .*billing"):
        _ = tinker.AdminClient
    with pytest.raises(AttributeError, match="has no attribute 'Datums'"):
        _ = tinker.Datums
    assert tinker.__version__ == "0.38.0"
