"""Whatever a client sends: an answer in the server's form, never a 500, and no file outside the data directory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import double_engine
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from yarl import URL

from loops_sdk.local.control_plane import ControlPlane
from loops_sdk.local.sampler import Sampler
from loops_sdk.local.serving import Server
from loops_sdk.local.storage import Storage
from loops_sdk.local.trainer import Trainer

from .conftest import KEY, RUN, SAMPLER, batch
from .doubles.double_launcher import Launcher

NAMES = st.sampled_from(
    ["../../x", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "C:\\x", "x\0y", "x" * 3000, "~", "%2e%2e%2f", "run7", "é"]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | NAMES
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)

DATUM = batch(1, 2, 3)["data"][0]
#: For every route that takes a body: a good one, from which the hostile ones are made by changing one place.
GOOD: dict[str, dict[str, Any]] = {
    "/forward": {
        "data": [{**DATUM, "loss_fn_inputs": {"target_tokens": {"data": [1, 2, 3], "dtype": "int64", "shape": [3]}}}],
        "loss_fn": "cross_entropy",
        "loss_fn_config": {},
    },
    "/optim_step": {"adam_params": {"learning_rate": 0.1, "beta1": 0.9, "grad_clip_norm": 1.0}},
    "/save_state": {"name": "a", "trainer_server_id": "run7", "run_id": "run7", "ttl_seconds": 60},
    "/save_weights_for_sampler": {"name": "a", "trainer_server_id": "run7"},
    "/load_state": {"path": "bt://loops:run7/weights/a"},
    "/load_state_with_optimizer": {"path": "bt://loops:run7/weights/a"},
    "/init_trainer_server": {"lora_rank": 4, "lora_alpha": 8, "seed": 1},
    "/v1/completions": {
        "model": "double/model",
        "prompt": [1, 2],
        "n": 1,
        "max_tokens": 2,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "seed": 1,
        "logprobs": 0,
        "prompt_logprobs": 0,
        "stop": ["x"],
        "stop_token_ids": [],
        "return_token_ids": True,
    },
    "/local/v1/sample": {
        "model": "double/model",
        "prompt": [{"role": "user", "content": "ab"}],
        "max_tokens": 2,
        "temperature": 0.5,
        "seed": 1,
    },
    "/local/v1/runs/run7/sample": {"model": "base", "prompt": "ab", "max_tokens": 2, "temperature": 0.5, "seed": 1},
    "/v1/loops/sessions": {"training_project_id": "p"},
    "/v1/loops/runs": {
        "session_id": "s",
        "base_model": "double/model",
        "name": "n",
        "lora_rank": 8,
        "seed": 1,
        "path": "bt://loops:run7/weights/x",
        "reuse_from_run_id": "run7",
        "reuse_from_session_id": "s",
        "scale_down_delay_seconds": 60,
    },
    "/v1/loops/checkpoints/validate": {"checkpoint_path": "bt://loops:run7/sampler_weights/x", "run_id": "run7"},
    "/v1/loops/samplers": {"session_id": "s", "run_id": "run7", "model_path": "bt://loops:run7/sampler_weights/x"},
}
PATHS = st.sampled_from(
    [
        "/operations/{}",
        "/deployment/{}/wake",
        "/v1/loops/runs/{}",
        "/v1/loops/samplers/{}",
        "/v1/loops/sessions/{}",
        "/v1/loops/deployments/{}",
        "/v1/loops/deployments/{}/deactivate",
        "/v1/loops/checkpoints/{}/files",
        "/v1/loops/checkpoints/{}/source",
        "/v1/teams/{}/loops/runs",
        "/v1/models/{}/deployments/{}",
        "/files/{}/save/{}",
        "/page/{}",
        "/local/v1/runs/{}",
        "/local/v1/runs/{}/operations",
        "/local/v1/runs/{}/metrics",
        "/local/v1/runs/{}/checkpoints",
        "/local/v1/runs/{}/sample",
        "/files/run7/save/name?expires={}&signature={}",
        "/{}",
        "/v1/models?{}={}",
    ]
)
QUERIES = [
    "/v1/loops/checkpoints",
    "/v1/loops/checkpoints/x/files",
    "/v1/loops/runs",
    "/v1/loops/capabilities",
    "/v1/loops/samplers",
    "/v1/loops/deployments",
    "/v1/teams",
    "/files/run7/save/name",
    "/status",
    "/local/v1/watching/operations",
    "/local/v1/runs",
    "/local/v1/runs/run7",
    "/local/v1/runs/run7/operations",
    "/local/v1/runs/run7/metrics",
    "/local/v1/runs/run7/checkpoints",
    "/page/main.js",
]
PARAMETERS = [
    *("run_id", "base_model", "checkpoint_path", "scope", "model", "use_case", "max_seq_len"),
    *("page_size", "page_token", "name", "expires", "signature"),
    *("limit", "before", "offset", "source"),
]
CONTROL_PLANE = ("/v1/loops", "/v1/teams", "/v1/models/", "/files", "/page", "/local/v1/runs")
SAMPLER_PATHS = ("/v1", "/deployment", "/local/v1/sample")


class Servers:
    """All three on a loop of their own, so that hypothesis can call them plainly."""

    def __init__(self, root: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.root = root
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        data = self.root / "data"
        data.mkdir()
        self.storage = Storage.create(data)
        self.storage.write_run(RUN)
        self.storage.write_sampler(SAMPLER)
        trainer, sampler = Trainer(self.storage, api_key=KEY, hold=5), Sampler(self.storage, api_key=KEY, wait=0.01)
        plane = ControlPlane(self.storage, Launcher(), api_key=KEY)
        self._servers = [Server(one.app) for one in (trainer, sampler, plane)]
        for server in self._servers:
            await server.start()
        await trainer.open(RUN, double_engine.Trainer())
        await sampler.open(SAMPLER, double_engine.Generator())
        self._session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"})

    def _url(self, path: str) -> URL:
        """Sent as it is: not even dots are taken out of the path."""
        index = 2 if path.startswith(CONTROL_PLANE) else 1 if path.startswith(SAMPLER_PATHS) else 0
        return URL(f"http://127.0.0.1:{self._servers[index].port}{path}", encoded=True)

    def ask(self, method: str, path: str, **options: Any) -> int:
        """The status; of the operation itself when the request was accepted as one."""
        return self.loop.run_until_complete(self._ask(method, path, options))

    async def _ask(self, method: str, path: str, options: dict[str, Any]) -> int:
        async with self._session.request(method, self._url(path), **options) as response:
            body = await response.json()
            status = response.status
        if status == 202:
            await self._ask("GET", f"/operations/{body['operation_id']}", {})
        assert isinstance(body, dict)
        return status

    def close(self) -> None:
        async def close() -> None:
            await self._session.close()
            for server in self._servers:
                await server.aclose()

        self.loop.run_until_complete(close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def outside(self) -> list[Path]:
        return [path for path in self.root.iterdir() if path.name != "data"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("hostile"))
    yield servers
    servers.close()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes]:
    path = draw(st.sampled_from(sorted(GOOD)))
    body = GOOD[path]
    for _ in range(draw(st.integers(1, 2))):
        body = changed(body, draw(st.sampled_from(sorted(places(body), key=repr))), draw(JSON))
    return path, json.dumps(body).encode("utf-8", "surrogatepass")


relaxed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize(
    "path",
    [
        "/forward",
        "/optim_step",
        "/save_state",
        "/init_trainer_server",
        "/v1/completions",
        "/v1/loops/sessions",
        "/local/v1/sample",
    ],
)
def test_the_bodies_that_are_changed_are_good_ones(servers: Servers, path: str) -> None:
    assert servers.ask("POST", path, json=GOOD[path]) in (200, 202)


@relaxed
@given(request=requests())
def test_no_body_makes_a_server_fail(servers: Servers, request: tuple[str, bytes]) -> None:
    path, body = request
    assert servers.ask("POST", path, data=body) < 500
    assert servers.outside() == []


@relaxed
@given(
    path=st.sampled_from(sorted(GOOD)), body=st.binary(max_size=200) | JSON.map(lambda data: json.dumps(data).encode())
)
def test_nor_does_any_noise(servers: Servers, path: str, body: bytes) -> None:
    assert servers.ask("POST", path, data=body) < 500


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"1" * 5000, b"NaN", b'"\\ud800"'])
@pytest.mark.parametrize("path", sorted(GOOD))
def test_nor_does_a_classic(servers: Servers, path: str, body: bytes) -> None:
    assert servers.ask("POST", path, data=body) < 500


@relaxed
@given(path=PATHS, name=NAMES | st.text(max_size=20), method=st.sampled_from(["GET", "POST"]))
@example(path="/files/{}/save/{}", name="..", method="GET")
def test_no_name_in_a_path_makes_a_server_fail(servers: Servers, path: str, name: str, method: str) -> None:
    quoted = quote(name.encode("utf-8", "surrogatepass"), safe="")
    assert servers.ask(method, path.format(quoted, quoted)) < 500
    assert servers.outside() == []


@relaxed
@given(
    path=st.sampled_from(QUERIES),
    name=st.sampled_from([*PARAMETERS, "x"]),
    value=NAMES | st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_no_query_makes_a_server_fail(servers: Servers, path: str, name: str, value: str) -> None:
    assert servers.ask("GET", path, params={name: value}) < 500


@relaxed
@given(key=st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=300))
def test_no_header_makes_a_server_fail(servers: Servers, key: str) -> None:
    for name in ("Idempotency-Key", "X-Min-Policy-Version", "X-Request-Id"):
        for path in ("/optim_step", "/v1/completions"):
            assert servers.ask("POST", path, json=GOOD[path], headers={name: key}) < 504
