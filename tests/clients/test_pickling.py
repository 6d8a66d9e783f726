"""Clients in pickles: what travels, what never does, and what a copy does on its first use."""

from __future__ import annotations

import base64
import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from loops_sdk import AdamParams, SamplingClient, ServiceClient, TrainingClient, errors

from .conftest import KEY, MODEL

COMPLETIONS = "POST /v1/completions"
Make = Callable[..., SamplingClient]
calls = 0


def provider() -> str:
    global calls
    calls += 1
    return KEY


def made(client: SamplingClient) -> SamplingClient:
    """The client out of its pickle."""
    copied = pickle.loads(pickle.dumps(client))
    assert type(copied) is SamplingClient
    return copied


def hidden(key: str) -> dict[str, bytes]:
    """A key as it might lie in a file unseen: in base64 it depends on what stands before it."""
    raw = key.encode()
    forms = {name: key.encode(name) for name in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")}
    forms |= {f"base64 at {shift}": base64.b64encode(b"\0" * shift + raw)[4:-4] for shift in range(3)}
    return {**forms, "hex": raw.hex().encode(), "backwards": raw[::-1]}


# ---------------------------------------------------------------- what travels


async def test_all_that_was_given_travels_but_the_key(sampling: Make, service: Any) -> None:
    facts = {
        "sampler_id": "sam1",
        "session_id": "s1",
        "min_policy_version": 3,
        "timeout": 7.0,
        "ready_timeout": 8.0,
    }
    client = sampling(**facts)
    copied = made(client)
    assert copied._binding == client._binding
    assert (copied.sampler_id, copied.session_id, copied.min_policy_version) == ("sam1", "s1", 3)
    assert repr(copied) == repr(client)
    assert service.asked == []
    service.publish(3)
    async with copied:
        assert (await copied.sample_async([1])).policy_version == 3
    assert service.last(COMPLETIONS).headers["X-Min-Policy-Version"] == "3"


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
async def test_the_key_does_not_travel(sampling: Make, protocol: int) -> None:
    client = sampling(api_key=KEY)
    await client.sample_async([1])  # with its connections open
    text = pickle.dumps(client, protocol)
    assert [name for name, form in hidden(KEY).items() if form in text] == []


@pytest.mark.parametrize("shift", range(3))
def test_a_key_that_travels_would_be_found(shift: int) -> None:
    for text in (KEY.encode(), KEY.encode("utf-16"), base64.b64encode(b"x" * shift + KEY.encode() + b"x")):
        assert [name for name, form in hidden(KEY).items() if form in pickle.dumps({"api_key": text})]


async def test_a_copy_is_on_its_own(sampling: Make, service: Any) -> None:
    client = sampling()
    await client.sample_async([1])
    copied = made(client)
    await client.aclose()
    async with copied:
        assert copied._connection.network is not client._connection.network
        await copied.sample_async([1])
    with pytest.raises(errors.ClientClosedError):
        await copied.sample_async([1])


async def test_a_closed_clients_copy_is_open(sampling: Make) -> None:
    client = sampling()
    await client.aclose()
    async with made(client) as copied:
        await copied.sample_async([1])


async def test_clients_of_any_origin_travel(client: ServiceClient, service: Any) -> None:
    heard: list[Any] = []
    async with ServiceClient(base_url=service.control, observers=[lambda event: heard.append(event)]) as watched:
        training = await watched.create_lora_training_client_async(MODEL, with_sampler=True)
        await training.optim_step_async(AdamParams())
        service.publish(1)
        service.models.append({"id": "bt://loops:r1/sampler_weights/a", "parent": "/models/base"})
        pinned = await (await training.save_weights_and_get_sampling_client_async("a"))
        fixed = await training.create_sampling_client_async("bt://loops:r1/sampler_weights/a")
        alone = await watched.create_sampling_client_async(MODEL)
        copies = [made(pinned), made(fixed), made(alone)]
        ids = [(one.sampler_id, one.session_id) for one in copies]
        assert ids == [(name, watched.session_id) for name in ("sam1", "sam1", "alone1")]
    heard.clear()
    for copied in copies:
        async with copied:
            await copied.sample_async([1])
    asked = [one for one in service.asked if one.line == COMPLETIONS]
    assert [one.body["model"] for one in asked] == ["adapter", "bt://loops:r1/sampler_weights/a", "adapter"]
    assert asked[0].headers["X-Min-Policy-Version"] == "1"
    assert heard == []  # observers stay behind


async def test_copy_is_a_pickle_without_bytes(sampling: Make) -> None:
    client = sampling()
    for copied in (copy.copy(client), copy.deepcopy(client)):
        async with copied:
            await copied.sample_async([1])
            assert copied._connection.network is not client._connection.network


# ---------------------------------------------------------------- the key of a copy


async def test_a_copy_takes_the_key_of_its_process(
    sampling: Make, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = pickle.dumps(sampling(api_key=KEY))
    monkeypatch.delenv("BASETEN_API_KEY")
    copied = pickle.loads(text)
    assert repr(copied).endswith("0 under way>")
    for call in (copied.sample_async([1]), copied.get_adapter_id_async()):
        with pytest.raises(errors.InvalidInputError, match=r"^api_key: .* BASETEN_API_KEY is not set") as caught:
            await call
        assert KEY not in str(caught.value)
    assert service.asked == []
    monkeypatch.setenv("BASETEN_API_KEY", KEY)
    await copied.sample_async([1])
    await copied.aclose()


async def test_a_copy_without_key_closes(sampling: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    text = pickle.dumps(sampling())
    monkeypatch.delenv("BASETEN_API_KEY")
    copied = pickle.loads(text)
    await copied.ensure_ready_async()
    await copied.aclose()
    with pytest.raises(errors.ClientClosedError):
        await copied.sample_async([1])


async def test_a_function_that_gives_the_key_travels(
    sampling: Make, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BASETEN_API_KEY")
    text = pickle.dumps(sampling(api_key=provider))
    again = pickle.dumps(pickle.loads(text))  # also on from a copy that was never used
    before = calls
    copied = pickle.loads(again)
    assert calls == before, "unpickling asks nobody"
    async with copied:
        await copied.sample_async([1])
    assert calls > before


async def test_a_service_whose_key_a_function_gives(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BASETEN_API_KEY")
    async with ServiceClient(base_url=service.control, api_key=provider) as client:
        training = await client.create_lora_training_client_async(MODEL, with_sampler=True)
        copied = made(await (await training.save_weights_and_get_sampling_client_async("a")))
    async with copied:
        await copied.sample_async([1])


async def test_a_function_that_cannot_travel_is_told(sampling: Make) -> None:
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(sampling(api_key=lambda: KEY))


async def test_no_key_stays_no_key(sampling: Make, service: Any) -> None:
    async with made(sampling(api_key="")) as copied:
        with pytest.raises(errors.AuthenticationError):
            await copied.sample_async([1])
    assert "Authorization" not in service.asked[-1].headers


# ---------------------------------------------------------------- what refuses


@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy])
async def test_the_others_say_what_to_do_instead(
    client: ServiceClient, training: TrainingClient, how: Callable[[object], object]
) -> None:
    with pytest.raises(TypeError, match=r"ServiceClient cannot be pickled.* Pass a SamplingClient, or session_id"):
        how(client)
    with pytest.raises(TypeError, match=r"TrainingClient cannot be pickled.* Pass the SamplingClient .*run_id"):
        how(training)
