"""`ServiceClient`: sessions, creates that are sent once, readiness, and what the errors carry."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import attrs
import pytest

from loops_sdk import AdamParams, Run, Sampler, ServiceClient, TrainingClient, errors
from loops_sdk._clients import provisioning
from loops_sdk._net import keepalive
from loops_sdk._net.caller import Patience
from loops_sdk.instrumentation import Event

from .conftest import KEY

CREATE = "POST /v1/loops/trainers"
HEALTH = "GET /health"


async def create(client: ServiceClient, **options: Any) -> Any:
    return await client.create_lora_training_client_async("acme/model", **options)


# ---------------------------------------------------------------- the session


async def test_construction_does_no_io(service: Any) -> None:
    client = ServiceClient(base_url=service.control)
    assert repr(client) == f"<ServiceClient {service.control} session=None>"
    with pytest.raises(errors.LoopsError, match=r"^session_id: the session is not open yet"):
        _ = client.session_id
    await client.aclose()
    assert service.asked == []


async def test_the_session_is_opened_once_by_concurrent_calls(client: ServiceClient, service: Any) -> None:
    await asyncio.gather(*(create(client) for _ in range(3)), client.open_async(), client.open_async())
    assert service.lines("/sessions") == ["POST /v1/loops/sessions"]
    assert client.session_id == "s1"
    assert {one.body["session_id"] for one in service.asked if one.line == CREATE} == {"s1"}


async def test_the_context_opens_and_closes(service: Any) -> None:
    async with ServiceClient("project-1", base_url=service.control) as client:
        assert client.session_id == "s1"
    assert service.asked[0].body == {"training_project_id": "project-1"}
    assert repr(client) == f"<ServiceClient {service.control} closed>"
    for use in (client.open_async(), create(client), client.list_checkpoints_async("r1")):
        with pytest.raises(errors.ClientClosedError):
            await use


async def test_a_context_that_does_not_open_leaves_nothing(service: Any) -> None:
    client = ServiceClient(base_url=service.control, api_key="wrong")
    with pytest.raises(errors.AuthenticationError, match="set BASETEN_API_KEY or pass api_key="):
        await client.__aenter__()
    assert "closed" in repr(client)


async def test_the_environment_names_address_and_key(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPS_BASE_URL", service.control)
    async with ServiceClient() as client:
        assert client.session_id == "s1"
    assert repr(ServiceClient(base_url="http://127.0.0.1:9")).startswith("<ServiceClient http://127.0.0.1:9 ")
    monkeypatch.delenv("LOOPS_BASE_URL")
    assert "https://api.baseten.co" in repr(ServiceClient())
    monkeypatch.delenv("BASETEN_API_KEY")
    with pytest.raises(errors.InvalidInputError, match=r"^api_key: none was given and BASETEN_API_KEY is not set\."):
        ServiceClient()
    assert repr(ServiceClient(api_key=""))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "api.baseten.co"}, r"^base_url: expected an http:// or https:// address, got 'api.baseten.co'"),
        ({"training_project_id": ""}, r"^training_project_id: expected a non-empty string"),
        ({"training_project_id": 5}, r"^training_project_id: expected a non-empty string .*got 5"),
    ],
)
def test_wrong_arguments_of_the_client(options: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.InvalidInputError, match=message):
        ServiceClient(**options)


# ---------------------------------------------------------------- creating a trainer


async def test_what_is_sent_and_what_comes_back(client: ServiceClient, service: Any) -> None:
    training = await create(client, rank=16, seed=7, max_seq_len=512, replicas=2, name="my-run")
    assert service.last(CREATE).body == {
        "session_id": "s1",
        "base_model": "acme/model",
        "name": "my-run",
        "max_seq_len": 512,
        "lora_rank": 16,
        "seed": 7,
        "replicas": 2,
    }
    info = training.get_info()
    assert (info.base_model, info.lora_rank, info.max_seq_len, training.run_id) == ("acme/model", 16, 512, "r1")
    await create(client)
    assert service.last(CREATE).body == {"session_id": "s1", "base_model": "acme/model", "lora_rank": 32}


WRONG: dict[str, Any] = {
    "base_model": ("", r"^base_model: expected a non-empty string"),
    "rank": (0, r"^rank: expected a value >= 1, got 0"),
    "seed": (-1, r"^seed: expected a value >= 0, got -1"),
    "timeout": (0, r"^timeout: expected a value > 0, got 0"),
    "ready_timeout": ("1h", r"^ready_timeout: expected a finite number, got '1h'"),
    "publish_timeout": (-1, r"^publish_timeout: expected a value > 0, got -1"),
    "max_seq_len": (1.5, r"^max_seq_len: expected a whole number, got 1.5"),
    "replicas": (0, r"^replicas: expected a value >= 1"),
    "name": ("a/b", r"^name: expected 1 to 255 letters"),
    "lora_alpha": (0, r"^lora_alpha: expected a value >= 1, got 0"),
    "train_attn": ("no", r"^train_attn: expected True, False or None, got 'no'"),
    "train_mlp": (0, r"^train_mlp: expected True, False or None, got 0"),
    "train_unembed": (1, r"^train_unembed: expected True, False or None, got 1"),
}


@pytest.mark.parametrize("argument", WRONG)
async def test_arguments_are_checked_before_anything_is_sent(
    client: ServiceClient, service: Any, argument: str
) -> None:
    value, message = WRONG[argument]
    with pytest.raises(errors.InvalidInputError, match=message):
        await client.create_lora_training_client_async(**{"base_model": "acme/model", argument: value})
    assert service.asked == []


async def test_nothing_to_train_is_refused_before_anything_is_sent(client: ServiceClient, service: Any) -> None:
    with pytest.raises(errors.InvalidInputError, match=r"^train_attn, train_mlp, train_unembed: all are False"):
        await create(client, train_attn=False, train_mlp=False, train_unembed=False)
    assert service.asked == []


# ---------------------------------------------------------------- the adapter's alpha and parts

INIT = "POST /init_trainer_server"


@attrs.define
class Starter:
    """What the trainer says of a fresh adapter: what it was asked for, with `told` over it."""

    service: Any
    reply: Any
    told: dict[str, Any] = attrs.field(factory=dict)

    async def __call__(self, _request: Any) -> Any:
        self.service._operations["fresh"] = {**self.service.asked[-1].body, **self.told}
        return self.reply(202, {"operation_id": "fresh"})


async def test_alpha_and_parts_are_asked_of_the_ready_trainer(client: ServiceClient, service: Any, reply: Any) -> None:
    service.on[INIT] = Starter(service, reply)
    training = await create(client, rank=8, seed=3, lora_alpha=16, train_mlp=False, train_unembed=True)
    assert service.last(CREATE).body == {"session_id": "s1", "base_model": "acme/model", "lora_rank": 8, "seed": 3}
    asked = {"lora_rank": 8, "lora_alpha": 16, "seed": 3, "train_mlp": False, "train_unembed": True}
    assert service.last(INIT).body == asked
    assert [line for line in service.lines() if line in (CREATE, INIT)] == [CREATE, INIT]
    assert training.get_info().lora_rank == 8
    assert training.last_policy_version == 0


async def test_a_trainer_is_left_alone_where_the_creation_says_all(client: ServiceClient, service: Any) -> None:
    await create(client, rank=8, seed=3)
    assert INIT not in service.lines()


@pytest.mark.parametrize("told", [{"train_mlp": None}, {"train_mlp": True}], ids=["nothing", "otherwise"])
async def test_what_the_trainer_does_not_confirm_fails_the_create(
    client: ServiceClient, service: Any, reply: Any, told: dict[str, Any]
) -> None:
    service.on[INIT] = Starter(service, reply, told)
    with pytest.raises(errors.UnsupportedError, match=r"^train_mlp: False was asked for, but the trainer") as caught:
        await create(client, train_mlp=False)
    assert (caught.value.session_id, caught.value.run_id) == ("s1", "r1")
    assert not client._trainings


async def test_a_trainer_that_knows_no_parts_refuses_the_create(
    client: ServiceClient, service: Any, reply: Any
) -> None:
    async def refuse(_request: Any) -> Any:
        return reply(422, {"detail": "unknown field train_mlp"})

    service.on[INIT] = refuse
    with pytest.raises(errors.BadRequestError, match="unknown field train_mlp") as caught:
        await create(client, train_mlp=False)
    assert caught.value.run_id == "r1"


@pytest.mark.parametrize("asked", [{"lora_alpha": 16}, {"train_mlp": False}, {"train_unembed": True}])
async def test_a_trainer_that_runs_already_is_not_started_over(service: Any, asked: dict[str, Any]) -> None:
    (name,) = asked
    async with ServiceClient.local(trainer_url=service.trainer, api_key=KEY) as local:
        with pytest.raises(errors.InvalidInputError, match=f"^{name}: a server that runs already cannot honour it"):
            await create(local, **asked)
    assert service.asked == []


async def test_cancelling_while_the_adapter_is_made_leaves_the_client_usable(
    client: ServiceClient, service: Any, reply: Any
) -> None:
    arrived = asyncio.Event()

    async def hang(_request: Any) -> Any:
        arrived.set()
        await asyncio.Event().wait()

    service.on[INIT] = Starter(service, reply)
    service.on["GET /operations/fresh"] = hang
    call = asyncio.create_task(create(client, lora_alpha=8))
    await arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not client._trainings
    del service.on["GET /operations/fresh"]
    assert (await create(client, lora_alpha=8)).run_id == "r2"


@pytest.mark.parametrize(
    ("environment", "option", "line"),
    [
        (None, None, CREATE),
        ("true", None, "POST /v1/loops/runs"),
        ("TRUE", None, "POST /v1/loops/runs"),
        ("1", None, "POST /v1/loops/runs"),
        ("false", None, CREATE),
        ("", None, CREATE),
        ("true", False, CREATE),
        (None, True, "POST /v1/loops/runs"),
    ],
)
async def test_a_sampler_at_once_or_later(
    client: ServiceClient, service: Any, monkeypatch: pytest.MonkeyPatch, environment: Any, option: Any, line: str
) -> None:
    if environment is not None:
        monkeypatch.setenv("LOOPS_WARM_START_SAMPLER", environment)
    await create(client, with_sampler=option)
    assert line in service.lines()


async def test_a_warm_start_that_is_neither(
    client: ServiceClient, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPS_WARM_START_SAMPLER", "perhaps")
    with pytest.raises(errors.InvalidInputError, match=r"^LOOPS_WARM_START_SAMPLER: expected true or false"):
        await create(client)
    assert service.asked == []


async def test_a_refused_create_is_told_at_once(client: ServiceClient, service: Any, reply: Any) -> None:
    async def refuse(_request: Any) -> Any:
        return reply(400, {"code": "VALIDATION_ERROR", "message": "no such model"})

    service.on[CREATE] = refuse
    with pytest.raises(errors.BadRequestError, match="no such model") as caught:
        await create(client)
    assert (caught.value.code, caught.value.session_id) == ("VALIDATION_ERROR", "s1")
    assert "GET /v1/loops/runs" not in service.lines()


# ---------------------------------------------------------------- lost answers


@pytest.mark.parametrize("how", ["reset", 502, 504, "garbled"])
async def test_a_lost_answer_is_looked_up_and_the_create_not_repeated(
    client: ServiceClient, service: Any, reply: Any, how: Any
) -> None:
    async def lose(request: Any) -> Any:
        service.make_run(with_sampler=False)
        if how == "garbled":
            return reply(200, {"run": {"id": "r1"}})
        if how == "reset":
            request.transport.abort()
            return None
        return reply(how)

    await client.open_async()
    service.asked[-1].body = {"session_id": "other", "base_model": "acme/model"}
    service.make_run(with_sampler=False)  # of another session
    service.on[CREATE] = lose
    training = await create(client)
    assert training.run_id == "r2"
    assert service.lines(CREATE) == [CREATE]
    assert service.last("GET /v1/loops/runs").body == {"base_model": "acme/model"}


async def test_the_list_may_come_late_and_in_trouble(client: ServiceClient, service: Any, reply: Any) -> None:
    async def lose(_request: Any) -> Any:
        return reply(504)

    async def late(_request: Any) -> Any:
        looks = len(service.lines("GET /v1/loops/runs"))
        if looks == 3:
            service.asked.append(service.last(CREATE))
            service.make_run(with_sampler=False)
        return reply(501) if looks == 1 else None

    service.on[CREATE], service.on["GET /v1/loops/runs"] = lose, late
    assert (await create(client)).run_id == "r1"


async def test_a_create_that_made_nothing_fails_with_its_own_error(
    client: ServiceClient, service: Any, reply: Any
) -> None:
    async def lose(_request: Any) -> Any:
        return reply(504, {"error": "gateway timed out"})

    service.on[CREATE] = lose
    with pytest.raises(errors.ServerFailureError, match="gateway timed out") as caught:
        await create(client)
    assert caught.value.session_id == "s1"
    assert service.lines(CREATE) == [CREATE]


async def test_two_creates_never_take_the_same_run(client: ServiceClient, service: Any, reply: Any) -> None:
    """The answer to the first is on its way for long, that to the second is lost: the first run is not the second's."""
    looked = asyncio.Event()

    async def create_slowly_then_lose(request: Any) -> Any:
        run = service.make_run(with_sampler=False)
        if len(service.runs) > 1:
            return reply(502)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(looked.wait(), 0.2)
        return reply(200, {"run": run})

    async def look(_request: Any) -> Any:
        looked.set()

    service.on[CREATE], service.on["GET /v1/loops/runs"] = create_slowly_then_lose, look
    first, second = await asyncio.gather(create(client), create(client))
    assert (first.run_id, second.run_id) == ("r1", "r2")


async def test_the_key_is_not_sent_where_it_must_not_go(client: ServiceClient, service: Any, reply: Any) -> None:
    async def far(_request: Any) -> Any:
        return reply(200, {"run": service.make_run(with_sampler=False, base_url="http://trainer.elsewhere.co")})

    service.on[CREATE] = far
    with pytest.raises(errors.ProtocolError, match="not https: the key is not sent there") as caught:
        await create(client)
    assert (caught.value.session_id, caught.value.run_id) == ("s1", "r1")


# ---------------------------------------------------------------- readiness


async def test_a_trainer_that_comes_up_late_is_waited_for(client: ServiceClient, service: Any, reply: Any) -> None:
    async def starting(_request: Any) -> Any:
        return reply(503) if len(service.lines(HEALTH)) < 20 else None

    service.on[HEALTH] = starting
    assert (await create(client)).run_id == "r1"
    assert len(service.lines(HEALTH)) == 20


@pytest.mark.parametrize("said", ["INACTIVE", 404])
async def test_a_run_that_is_over_is_not_waited_for(client: ServiceClient, service: Any, reply: Any, said: Any) -> None:
    async def starting(_request: Any) -> Any:
        return reply(503)

    async def over(_request: Any) -> Any:
        service.runs[0]["status"] = {"name": said}
        return reply(404) if said == 404 else None

    service.on[HEALTH], service.on["GET /v1/loops/runs/r1"] = starting, over
    with pytest.raises(errors.DeploymentFailedError, match="the trainer is INACTIVE and will not come up") as caught:
        await create(client)
    assert (caught.value.session_id, caught.value.run_id) == ("s1", "r1")


async def test_troubles_of_the_control_plane_do_not_end_the_wait(
    client: ServiceClient, service: Any, reply: Any
) -> None:
    async def starting(_request: Any) -> Any:
        return reply(503) if len(service.lines(HEALTH)) < 20 else None

    async def trouble(_request: Any) -> Any:
        return reply(501)

    service.on[HEALTH], service.on["GET /v1/loops/runs/r1"] = starting, trouble
    assert (await create(client)).run_id == "r1"


async def test_a_trainer_that_never_comes_up_leaves_its_ids(client: ServiceClient, service: Any, reply: Any) -> None:
    async def starting(_request: Any) -> Any:
        return reply(503, {"detail": "loading weights"})

    service.on[HEALTH] = starting
    with pytest.raises(errors.RequestTimeoutError, match=r"not ready within 0.2 s.*loading weights") as caught:
        await create(client, ready_timeout=0.2)
    assert (caught.value.session_id, caught.value.run_id) == ("s1", "r1")
    assert isinstance(caught.value, TimeoutError)


async def test_a_trainer_that_hangs_does_not_outlast_the_ready_timeout(client: ServiceClient, service: Any) -> None:
    release = asyncio.Event()

    async def hang(_request: Any) -> Any:
        await release.wait()

    service.on[HEALTH] = hang
    async with asyncio.timeout(5):
        with pytest.raises(errors.RequestTimeoutError):
            await create(client, ready_timeout=0.2)
    release.set()


async def test_a_key_the_trainer_refuses_ends_the_wait(client: ServiceClient, service: Any, reply: Any) -> None:
    async def refuse(_request: Any) -> Any:
        return reply(403)

    service.on[HEALTH] = refuse
    with pytest.raises(errors.PermissionDeniedError) as caught:
        await create(client)
    assert caught.value.run_id == "r1"


async def test_cancelling_a_create_leaves_the_client_usable(client: ServiceClient, service: Any) -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def hang(_request: Any) -> Any:
        arrived.set()
        await release.wait()

    service.on[CREATE] = hang
    call = asyncio.create_task(create(client))
    await arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    release.set()
    del service.on[CREATE]
    assert (await create(client)).run_id


async def test_closing_ends_a_wait_for_readiness(client: ServiceClient, service: Any, reply: Any) -> None:
    asked = asyncio.Event()

    async def starting(_request: Any) -> Any:
        asked.set()
        return reply(503)

    service.on[HEALTH] = starting
    call = asyncio.create_task(create(client))
    await asked.wait()
    await client.aclose()
    with pytest.raises(errors.ClientClosedError):
        await call


# ---------------------------------------------------------------- from a checkpoint

PATH = "bt://loops:r0/weights/step-1"
ATTACH = "attach_training_client"
FROM_STATE = ["create_training_client_from_state", "create_training_client_from_state_with_optimizer"]


def state(service: Any, **fields: Any) -> None:
    """The control plane knows a checkpoint of an earlier run beside one of the same name for samplers."""
    known = {"run_id": "r0", "target": "trainer", "lora_adapter_config": {"r": 8}, **fields}
    service.states.append(service.checkpoint("step-1", **known))


@pytest.mark.parametrize(
    ("name", "load", "version"),
    [(FROM_STATE[0], "/load_state", 0), (FROM_STATE[1], "/load_state_with_optimizer", 5)],
)
async def test_a_run_from_a_checkpoint(client: ServiceClient, service: Any, name: str, load: str, version: int) -> None:
    state(service)
    training = await getattr(client, f"{name}_async")(PATH, 300.0, name="again", replicas=2, max_seq_len=64)
    assert service.last("GET /v1/loops/checkpoints").body == {"checkpoint_path": PATH}
    assert service.last(CREATE).body == {
        "session_id": "s1",
        "base_model": "acme/model",
        "name": "again",
        "max_seq_len": 64,
        "lora_rank": 8,
        "replicas": 2,
    }
    assert service.last(f"POST {load}").body == {"path": PATH}
    assert (training.get_info().lora_rank, training.get_info().max_seq_len, training.run_id) == (8, 64, "r1")
    assert training.last_policy_version == version


@pytest.mark.parametrize(
    "fields", [{"base_model": None}, {"lora_adapter_config": None}, {"lora_adapter_config": {"r": "8"}}]
)
async def test_a_checkpoint_of_unknown_shape_makes_no_run(client: ServiceClient, service: Any, fields: Any) -> None:
    state(service, **fields)
    with pytest.raises(errors.ProtocolError, match=f"expected base model and rank of {PATH}, got "):
        await client.create_training_client_from_state_async(PATH)
    assert service.runs == []


async def test_a_checkpoint_among_others_with_impossible_names_is_found(client: ServiceClient, service: Any) -> None:
    odd = [service.checkpoint("../x", target="trainer"), service.checkpoint("", run_id="a/b", target="trainer")]
    service.states = [*odd, service.checkpoint("step-1", target="trainer", lora_adapter_config={"r": 4})]
    made = await client.create_training_client_from_state_async("bt://loops:r1/weights/step-1")
    assert made.get_info().lora_rank == 4


async def test_a_checkpoint_that_is_not_there_makes_no_run(client: ServiceClient, service: Any, reply: Any) -> None:
    with pytest.raises(errors.NotFoundError, match=f"there is no checkpoint {PATH}"):
        await client.create_training_client_from_state_async(PATH)

    async def refuse(_request: Any) -> Any:
        return reply(404, {"message": "no such checkpoint"})

    service.on["GET /v1/loops/checkpoints"] = refuse
    with pytest.raises(errors.NotFoundError, match="no such checkpoint"):
        await client.create_training_client_from_state_with_optimizer_async(PATH)
    assert service.runs == []


@pytest.mark.parametrize("name", FROM_STATE)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "step-1"}, r"^path: expected bt://loops:"),
        ({"path": "bt://loops:r0/sampler_weights/x"}, r"^path: expected weights, which trainers load"),
        *(({argument: WRONG[argument][0]}, WRONG[argument][1]) for argument in ("timeout", "replicas", "name")),
    ],
)
async def test_arguments_of_both_are_checked_before_anything_is_sent(
    client: ServiceClient, service: Any, name: str, arguments: Any, message: str
) -> None:
    with pytest.raises(errors.InvalidInputError, match=message):
        await getattr(client, f"{name}_async")(**{"path": PATH, **arguments})
    assert service.asked == []


#: Ways to a client of what is there already, as they are called.
WAYS: dict[str, dict[str, Any]] = {**{name: {"path": PATH} for name in FROM_STATE}, ATTACH: {"run_id": "r1", "rank": 8}}


async def on_the_way(client: ServiceClient, service: Any, name: str, **options: Any) -> TrainingClient:
    """A client by one of the ways, to a run or a checkpoint that the control plane knows."""
    state(service)
    if name == ATTACH:
        await create(client)
    made: TrainingClient = await getattr(client, f"{name}_async")(**WAYS[name], **options)
    return made


@pytest.mark.parametrize("name", WAYS)
async def test_times_are_honoured_on_every_way(client: ServiceClient, service: Any, reply: Any, name: str) -> None:
    training = await on_the_way(client, service, name, timeout=0.3, publish_timeout=0.2)
    await (await training.optim_step_async(AdamParams()))
    publishing = await training.save_weights_and_get_sampling_client_async("a")
    with pytest.raises(errors.WeightsNotReadyError, match=r"within 0.2 s"):
        await publishing.result_async(timeout=10)
    release = asyncio.Event()

    async def hang(_request: Any) -> Any:
        await release.wait()

    async def starting(_request: Any) -> Any:
        return reply(503)

    service.on["POST /optim_step"], service.on[HEALTH] = hang, starting
    async with asyncio.timeout(10):
        with pytest.raises(errors.RequestTimeoutError):
            await training.optim_step_async(AdamParams())
        with pytest.raises(errors.RequestTimeoutError, match=r"was not ready within 0.2 s"):
            await getattr(client, f"{name}_async")(**WAYS[name], ready_timeout=0.2)
    release.set()


@pytest.mark.parametrize("name", FROM_STATE)
async def test_a_sampler_may_come_with_it(client: ServiceClient, service: Any, name: str) -> None:
    state(service)
    await getattr(client, f"{name}_async")(PATH, with_sampler=True)
    assert (service.lines("POST /v1/loops/runs"), service.lines(CREATE)) == (["POST /v1/loops/runs"], [])


@pytest.mark.parametrize("how", ["at submit", "as an operation"])
async def test_a_load_that_fails_leaves_its_ids(client: ServiceClient, service: Any, reply: Any, how: str) -> None:
    async def refuse(_request: Any) -> Any:
        if how == "at submit":
            return reply(404, {"detail": "it has expired"})
        return reply(202, {"operation_id": "op-0"})

    async def fail(_request: Any) -> Any:
        return reply(200, {"status": "error", "error": "it has expired", "error_class": "RuntimeError"})

    state(service)
    service.on["POST /load_state"], service.on["GET /operations/op-0"] = refuse, fail
    with pytest.raises(errors.LoopsError, match="it has expired") as caught:
        await client.create_training_client_from_state_async(PATH)
    assert (caught.value.session_id, caught.value.run_id) == ("s1", "r1")
    assert isinstance(caught.value, errors.NotFoundError if how == "at submit" else errors.RemoteOpError)


async def test_cancelling_while_the_weights_are_loaded_leaves_the_client_usable(
    client: ServiceClient, service: Any
) -> None:
    state(service)
    arrived, release = asyncio.Event(), asyncio.Event()

    async def hang(_request: Any) -> Any:
        arrived.set()
        await release.wait()

    service.on["GET /operations/op-0"] = hang
    call = asyncio.create_task(client.create_training_client_from_state_async(PATH))
    await arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    release.set()
    assert (await client.create_training_client_from_state_async(PATH)).run_id == "r2"


# ---------------------------------------------------------------- what the service offers

CAPABILITIES = "GET /v1/loops/capabilities"
OFFER = {
    "model_name": "acme/model",
    "max_seq_len": 4096,
    "max_context_length": 4096,
    "supports_vision_language": False,
    "max_enabled_seq_len": 2048,
    "serverless": None,
}


async def test_capabilities(client: ServiceClient, service: Any) -> None:
    service.offered = [
        {**OFFER, "enabled": False, "enablement_details": DETAILS},
        {"model_name": "b", "max_seq_len": 8},
    ]
    first, second = (await client.get_server_capabilities_async("acme/model", "sft", 512)).supported_models
    assert service.last(CAPABILITIES).body == {"model": "acme/model", "use_case": "sft", "max_seq_len": "512"}
    assert (first.model_name, first.max_enabled_seq_len, first.enabled) == ("acme/model", 2048, False)
    assert first.enablement_details is not None
    assert first.enablement_details.remediation == "ask us"
    assert (second.enabled, second.max_enabled_seq_len, second.enablement_details) == (True, 0, None)
    await client.get_server_capabilities_async()
    assert service.last(CAPABILITIES).body == {}
    assert service.lines("/sessions") == []


DETAILS = {"reason": "needs_approval", "reason_detail": "not yet", "remediation": "ask us"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": ""}, r"^model: expected a non-empty string"),
        ({"use_case": "dpo"}, r"^use_case: expected 'rl', 'sft' or None, got 'dpo'"),
        ({"max_seq_len": 0}, r"^max_seq_len: expected a value >= 1"),
    ],
)
async def test_arguments_of_capabilities(client: ServiceClient, service: Any, arguments: Any, message: str) -> None:
    with pytest.raises(errors.InvalidInputError, match=message):
        await client.get_server_capabilities_async(**arguments)
    assert service.asked == []


@pytest.mark.parametrize(
    ("offered", "longest"),
    [
        ([OFFER], 2048),
        ([{**OFFER, "max_enabled_seq_len": 0}], 4096),
        ([{**OFFER, "model_name": "acme/other"}], None),
        ([], None),
    ],
)
async def test_the_longest_sequence_is_told_by_the_service(
    client: ServiceClient, service: Any, offered: Any, longest: Any
) -> None:
    service.offered = offered
    training = await create(client)
    assert training.get_info().max_seq_len == longest
    assert service.last(CAPABILITIES).body == {"model": "acme/model"}
    assert "max_seq_len" not in service.last(CREATE).body
    await (await training.save_weights_and_get_sampling_client_async("a"))
    assert "max_seq_length" not in service.last("POST /v1/loops/samplers").body


async def test_a_given_longest_sequence_is_not_asked_for(client: ServiceClient, service: Any) -> None:
    service.offered = [OFFER]
    assert (await create(client, max_seq_len=100)).get_info().max_seq_len == 100
    assert service.lines(CAPABILITIES) == []


@pytest.mark.parametrize("how", [404, 502, "garbled"])
async def test_capabilities_in_trouble_cost_the_number_only(
    client: ServiceClient, service: Any, reply: Any, how: Any
) -> None:
    async def trouble(_request: Any) -> Any:
        return reply(200, {"supported_models": 3}) if how == "garbled" else reply(how)

    service.on[CAPABILITIES] = trouble
    assert (await create(client)).get_info().max_seq_len is None


async def test_capabilities_are_asked_beside_the_wait_and_cost_a_bounded_delay(
    client: ServiceClient, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer comes up only once they are being asked for; they never answer."""
    monkeypatch.setattr(provisioning, "_BRIEFLY", Patience(total=0.1, attempts=2))
    asked, release = asyncio.Event(), asyncio.Event()

    async def hang(_request: Any) -> None:
        asked.set()
        await release.wait()

    async def starting(_request: Any) -> None:
        await asked.wait()

    service.on[CAPABILITIES], service.on[HEALTH] = hang, starting
    async with asyncio.timeout(5):
        assert (await create(client)).get_info().max_seq_len is None
    release.set()


async def test_a_trainer_that_does_not_come_up_leaves_no_question_behind(
    client: ServiceClient, service: Any, reply: Any
) -> None:
    release = asyncio.Event()

    async def hang(_request: Any) -> None:
        await release.wait()

    async def refuse(_request: Any) -> Any:
        return reply(403)

    service.on[CAPABILITIES], service.on[HEALTH] = hang, refuse
    with pytest.raises(errors.PermissionDeniedError):
        await create(client)
    assert not [task for task in asyncio.all_tasks() if "longest" in repr(task)]
    release.set()


# ---------------------------------------------------------------- the rest


async def test_files_of_a_checkpoint(client: ServiceClient, service: Any, reply: Any) -> None:
    async def files(_request: Any) -> Any:
        return reply(200, {"presigned_urls": [], "next_page_token": 7, "total_count": 9})

    service.on["GET /v1/loops/checkpoints/id-1/files"] = files
    page = await client.get_checkpoint_archive_url_async("id-1", 5, 2)
    assert (page.next_page_token, page.total_count) == (7, 9)
    assert service.asked[-1].body == {"page_size": "5", "page_token": "2"}
    with pytest.raises(errors.InvalidInputError, match=r"^page_size: "):
        await client.get_checkpoint_archive_url_async("id-1", page_size=0)


@pytest.mark.parametrize("given", ["text", "provider"])
async def test_the_key_may_come_from_a_function_that_is_called_once(
    service: Any, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    calls = []

    def provider() -> str:
        calls.append(1)
        return "secret-key-of-the-tests"

    monkeypatch.delenv("BASETEN_API_KEY")
    async with ServiceClient(base_url=service.control, api_key=provider if given == "provider" else provider()) as one:
        await create(one)
    assert calls == [1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            lambda: " key",
            r"^api_key: expected printable ASCII without spaces around it \(the value is not shown here\)",
        ),
        (lambda: None, r"^api_key: expected a string, or a function that gives one; the given function gave NoneType"),
        (b"key", r"^api_key: expected a string, or a function that gives one; got bytes"),
    ],
)
def test_a_key_of_the_wrong_kind(given: Any, message: str) -> None:
    with pytest.raises(errors.InvalidInputError, match=message):
        ServiceClient(api_key=given)


async def test_a_closed_training_client_leaves_the_list(client: ServiceClient) -> None:
    for _ in range(3):
        async with await create(client):
            assert len(client._trainings) == 1
    assert client._trainings == set()


async def test_a_client_that_fails_to_close_does_not_keep_the_others_open(
    client: ServiceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = [await create(client) for _ in range(3)]
    sampling = await client.create_sampling_client_async("acme/model")

    async def fail() -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(second, "aclose", fail)
    with pytest.raises(OSError, match="the disk is full"):
        await client.aclose()
    for use in (first.health_async(), third.health_async(), sampling.sample_async([1]), client.open_async()):
        with pytest.raises(errors.ClientClosedError):
            await use
    assert client._trainings == {second}
    monkeypatch.undo()
    await client.aclose()
    assert client._trainings == set()


async def test_clients_are_kept_alive_until_they_are_closed(
    client: ServiceClient, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepalive, "INTERVAL", 0.02)
    asked = asyncio.Event()

    async def ask(_request: Any) -> None:
        asked.set()

    training = await create(client)
    service.on[HEALTH] = ask
    async with asyncio.timeout(5):
        await asked.wait()
    await training.aclose()
    assert training._channel.keep_alive._timer is None or training._channel.keep_alive._timer.cancelled()


async def test_checkpoints_of_a_run(client: ServiceClient, service: Any) -> None:
    (found,) = await client.list_checkpoints_async("r1")
    assert (found.checkpoint_id, found.path) == ("step-1", "bt://loops:r1/sampler_weights/step-1")
    assert service.asked[-1].body == {"run_id": "r1"}
    with pytest.raises(errors.InvalidInputError, match=r"^run_id: expected 1 to 255 letters"):
        await client.list_checkpoints_async("../r1")


async def test_runs_are_listed_and_looked_at_without_a_session(client: ServiceClient, service: Any) -> None:
    assert await client.list_runs_async("acme/model") == []
    assert service.lines("POST") == []
    await create(client)
    service.sampler_made = True
    (run,) = await client.list_runs_async(base_model="acme/model")
    assert run == await client.get_run_async(run_id="r1")
    assert (run.id, run.base_model, run.session_id, run.status.name) == ("r1", "acme/model", "s1", "ACTIVE")
    assert (run.base_url, run.user.email, run.deployment_id, run.lora_config_version) == (
        service.trainer,
        None,
        None,
        None,
    )
    assert isinstance(run, Run)
    assert run.name
    assert run.created_at.tzinfo is not None
    paired = run.sampler
    assert isinstance(paired, Sampler)
    assert (paired.id, paired.base_model, paired.status.name) == ("sam1", "acme/model", "ACTIVE")
    assert (paired.base_url, paired.user, paired.created_at) == (service.sampler, run.user, run.created_at)
    assert (paired.model_id, paired.deployment_id, paired.instance_type, paired.node_count) == (None, None, None, 1)
    with pytest.raises(errors.InvalidInputError, match=r"^run_id: expected 1 to 255 letters"):
        await client.get_run_async("../r1")
    with pytest.raises(errors.InvalidInputError, match=r"^base_model: expected a non-empty string"):
        await client.list_runs_async("")


async def test_training_clients_end_with_their_service(client: ServiceClient, service: Any) -> None:
    training = await create(client)
    assert "run=r1 <Channel " in repr(training)
    await client.aclose()
    with pytest.raises(errors.ClientClosedError):
        await training.health_async()
    await training.aclose()


async def test_observers_hear_of_retries_without_the_key(service: Any, reply: Any) -> None:
    async def trouble(_request: Any) -> Any:
        return reply(502) if len(service.lines("/sessions")) == 1 else None

    service.on["POST /v1/loops/sessions"] = trouble
    heard: list[Event] = []
    async with ServiceClient(base_url=service.control, observers=[heard.append]):
        pass
    assert [type(event).__name__ for event in heard] == ["WaitStarted", "RequestRetried", "WaitFinished"]
    assert {event.operation for event in heard} == {"create_session"}
    assert "secret" not in str(heard)
