"""What a case may be given: a deployment in the environment, clients of it, servers that misbehave. By name, each a
context in the event loop of the case.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
import attrs
from aiohttp import web

import loops_sdk_sync.local
from loops_sdk import Run, SamplingClient, ServiceClient, TrainingClient
from loops_sdk.local.stack.local_stack import _folder as held_folder
from loops_sdk.types import LocalDeployment

MODEL = "loops/tiny"
#: Of ours in the environment, and none of it is there unless a case is given it.
OURS = ("LOOPS_BASE_URL", "BASETEN_API_KEY", "LOOPS_TEAM", "LOOPS_BASE_MODEL", "LOOPS_METRICS_DIR")


@attrs.define
class World:
    """What the cases of one session share: a deployment over the dry engine and one run on it."""

    stack: loops_sdk_sync.local.LocalStack
    folder: Path
    run_id: str | None = None


Given = Callable[[World], AbstractAsyncContextManager[Any]]
GIVEN: dict[str, Given] = {}


def given(make: Callable[[World], AsyncIterator[Any]]) -> Given:
    """Let cases ask for it by its name."""
    GIVEN[make.__name__] = asynccontextmanager(make)
    return GIVEN[make.__name__]


@given
async def deployment(world: World) -> AsyncIterator[str]:
    """The deployment, in the environment as `loops run` has it."""
    os.environ.update(world.stack.env)
    yield world.stack.base_url


@given
async def service(world: World) -> AsyncIterator[ServiceClient]:
    """A client of the deployment."""
    async with ServiceClient(base_url=world.stack.base_url, api_key=world.stack.api_key) as made:
        yield made


@given
async def training(world: World) -> AsyncIterator[TrainingClient]:
    """A training client, of the one run that the cases share."""
    async with service(world) as made:
        if world.run_id is None:
            first = await made.create_lora_training_client_async(MODEL, rank=8, with_sampler=True)
            world.run_id = first.run_id
        assert world.run_id is not None
        client = await made.attach_training_client_async(world.run_id)
        await (await client.init_trainer_server_async(8))  # nothing that an earlier case has left
        yield client


@given
async def sampling(world: World) -> AsyncIterator[SamplingClient]:
    """A sampling client of that run."""
    async with training(world) as made:
        yield await (await made.save_weights_and_get_sampling_client_async("lessons"))


@given
async def tokens(world: World) -> AsyncIterator[list[int]]:
    """Twelve token ids of a text."""
    yield [84, 104, 262, 102, 293, 114, 121, 32, 108, 301, 118, 115]


@given
async def port_in_use(world: World) -> AsyncIterator[int]:
    """A port where another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield int(taken.getsockname()[1])


@given
async def nobody(world: World) -> AsyncIterator[str]:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    os.environ.update(LOOPS_BASE_URL=address, BASETEN_API_KEY="a-key-of-the-right-form")
    yield address


@given
async def web_page(world: World) -> AsyncIterator[str]:
    """A web server that is no control plane."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<html><h1>404 Not Found</h1></html>", content_type="text/html", status=404)

    async with _served(page) as address:
        os.environ.update(LOOPS_BASE_URL=address, BASETEN_API_KEY="a-key-of-the-right-form")
        yield address


@given
async def wrong_key(world: World) -> AsyncIterator[None]:
    """The address of the deployment with a key that it does not know."""
    os.environ.update(world.stack.env | {"BASETEN_API_KEY": "bt-an-old-key"})
    yield


@given
async def sampler_that_stays_behind(world: World) -> AsyncIterator[LocalDeployment]:
    """A sampler that shows its base model and never follows what is published."""

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/models"):
            return web.json_response({"object": "list", "data": [{"id": "base", "max_model_len": 1024}]})
        return web.json_response({"detail": "policy version 0 is older than the version 3 asked for"}, status=409)

    async with _served(answer) as address:
        os.environ["BASETEN_API_KEY"] = world.stack.api_key
        yield LocalDeployment(address)


@given
async def training_with_a_sampler_that_stays_behind(world: World) -> AsyncIterator[TrainingClient]:
    """The one trainer, paired with such a sampler."""
    async with training(world), sampler_that_stays_behind(world) as behind:
        run = await _run(world)
        client = TrainingClient(
            run.base_url,
            base_model=MODEL,
            run_id=run.id,
            paired_sampling_deployment=behind,
            publish_timeout=2.0,  # time enough for one answer on a machine that is busy
            api_key=world.stack.api_key,
        )
        async with client:
            yield client


async def _run(world: World) -> Run:
    assert world.run_id is not None
    async with service(world) as made:
        return await made.get_run_async(world.run_id)


@given
async def training_that_was_deactivated(world: World) -> AsyncIterator[TrainingClient]:
    """A client whose run somebody has deactivated."""
    async with service(world) as made:
        client = await made.create_lora_training_client_async(MODEL, rank=8)
        await _deactivate(world, str(client.run_id))
        yield client


@given
async def run_that_has_ended(world: World) -> AsyncIterator[str]:
    """The id of a run that somebody has deactivated."""
    async with service(world) as made:
        client = await made.create_lora_training_client_async(MODEL, rank=8)
        run_id = str(client.run_id)
        await _deactivate(world, run_id)
        yield run_id


async def _deactivate(world: World, run_id: str) -> None:
    headers = {"Authorization": f"Bearer {world.stack.api_key}"}
    url = f"{world.stack.base_url}/v1/loops/runs/{run_id}/deactivate"
    async with aiohttp.request("POST", url, headers=headers) as answer:
        assert answer.status == 200


@given
async def data_dir_in_use(world: World) -> AsyncIterator[Path]:
    """A folder that a deployment holds."""
    folder = world.folder / "data"
    async with contextlib.AsyncExitStack() as held:
        held.enter_context(held_folder(folder))
        yield folder


@given
async def adapter(world: World) -> AsyncIterator[str]:
    """A folder with an adapter that was trained on another machine."""
    folder = world.folder / "adapter"
    folder.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 32, "base_model_name_or_path": "/models/island"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    yield "adapter"


@given
async def no_hub_token(world: World) -> AsyncIterator[None]:
    """Nobody is logged in to the Hugging Face Hub."""
    with mock.patch("huggingface_hub.get_token", return_value=None):
        yield


@given
async def no_torch(world: World) -> AsyncIterator[None]:
    """An installation without the extra `local`."""
    find = importlib.util.find_spec

    def found(name: str, package: str | None = None) -> Any:
        return None if name in ("torch", "peft") else find(name, package)

    with mock.patch.object(importlib.util, "find_spec", found):
        yield


@asynccontextmanager
async def _served(answer: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.contextmanager
def environment() -> Any:
    """The environment without anything of ours, and as it was afterwards."""
    before = os.environ.copy()
    for name in OURS:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
