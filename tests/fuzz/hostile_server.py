"""A server on loopback that speaks raw bytes: honest on every route but those that a case has plans for."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hostile_answers import Answer
from hostile_json import written

from loops_sdk._wire import endpoints

#: In replies and answers, the address of the server that sends them.
HERE = "http://here.invalid:80"  # as long as what it is replaced by, for the sake of Content-Length
MODEL = "acme/model"
RUN_ID = "run7"
WEIGHTS = f"bt://loops:{RUN_ID}/weights/a"
SAMPLER_WEIGHTS = f"bt://loops:{RUN_ID}/sampler_weights/a"
PROMPT = [3, 4, 5]

_ABORT = struct.pack("ii", 1, 0)
_WHEN = "2026-01-01T00:00:00Z"
_SAMPLER: dict[str, Any] = {
    "id": "smp7",
    "base_url": f"{HERE}/s",
    "base_model": MODEL,
    "created_at": _WHEN,
    "status": {"name": "ACTIVE"},
    "user": {"email": None},
    "model_id": "m7",
    "deployment_id": "d7",
    "instance_type": None,
    "node_count": 1,
}
_RUN: dict[str, Any] = {
    "id": RUN_ID,
    "session_id": "ses7",
    "name": "a run",
    "base_model": MODEL,
    "base_url": f"{HERE}/t",
    "created_at": _WHEN,
    "status": {"name": "ACTIVE"},
    "user": {"email": "a@b.example"},
    "sampler": _SAMPLER,
}
_CHECKPOINT: dict[str, Any] = {
    "id": "cp7",
    "checkpoint_id": "a",
    "run_id": RUN_ID,
    "target": "trainer",
    "checkpoint_type": "lora",
    "base_model": MODEL,
    "size_bytes": 10,
    "created_at": _WHEN,
    "lora_adapter_config": {"r": 4, "target_modules": ["q_proj"]},
    "lora_config": {"config_version": "v1", "targets": ["q_proj"]},
    "sync_status": "COMPLETE",
}
_TENSOR = {"data": [-0.5, None, -1.5], "dtype": "float32", "shape": [3]}
_CHOICE: dict[str, Any] = {
    "index": 0,
    "finish_reason": "stop",
    "token_ids": [7, 8],
    "logprobs": {"tokens": ["token_id:7", "token_id:8"], "token_logprobs": [-0.5, None]},
    "prompt_token_ids": PROMPT,
    "prompt_logprobs": [None, *({str(token): {"logprob": -1.0, "rank": 1}} for token in PROMPT[1:])],
}
_RESULTS: dict[str, Any] = {
    "forward_backward": {
        "loss": 1.5,
        "metrics": {"loss:sum": 1.5},
        "loss_fn_outputs": [{"logprobs": _TENSOR, "elementwise_loss": [0.5, 0.5, 0.5]}],
        "loss_fn_output_type": "x",
    },
    "optim_step": {"metrics": {"step": 3.0, "lr": 0.1, "grad_norm": 1.0}},
    "save_state": {"path": WEIGHTS, "type": "save_weights", "policy_version": 3},
    "save_weights_for_sampler": {"path": SAMPLER_WEIGHTS, "type": "save_weights", "policy_version": 3},
    "load_state": {"path": WEIGHTS, "type": "load_weights", "policy_version": 3},
    "init_trainer_server": {"lora_rank": 4},
}
_RESULTS |= {"forward": _RESULTS["forward_backward"], "load_state_with_optimizer": _RESULTS["load_state"]}

#: The honest reply of every call, by the call's name; those of operations are what polling for them brings.
HONEST: dict[str, Any] = {
    "create_session": {"session": {"id": "ses7"}},
    "create_run": {"run": _RUN},
    "create_trainer": {"run": {**_RUN, "sampler": None}},
    "list_runs": {"runs": [_RUN]},
    "get_run": {"run": _RUN},
    "create_sampler": {"sampler": _SAMPLER},
    "list_samplers": {"samplers": []},
    "get_sampler": {"sampler": _SAMPLER},
    "list_checkpoints": {"checkpoints": [{**_CHECKPOINT, "checkpoint_id": "b", "target": "sampler"}, _CHECKPOINT]},
    "checkpoint_files": {
        "presigned_urls": [
            {
                "url": f"{HERE}/presigned?signature=1",
                "relative_file_name": "layers/adapter_config.json",
                "node_rank": 0,
                "size_bytes": 10,
                "last_modified": _WHEN,
            }
        ],
        "next_page_token": None,
        "total_count": 1,
    },
    "capabilities": {"supported_models": [{"model_name": MODEL, "max_seq_len": 64, "max_enabled_seq_len": 32}]},
    "model_deployment": {"id": "d7", "model_id": "m7", "status": "ACTIVE", "name": "x", "active_replica_count": 1},
    "list_teams": {"teams": [{"id": "t7", "name": "a team"}]},
    "wake": {},
    "health": {"status": "ok"},
    "policy_version": {"policy_version": 3},
    "status": {"run_id": RUN_ID, "step": 3, "base_model": MODEL, "lora_rank": 4, "max_seq_len": 64},
    "submit": {"operation_id": "op-0"},
    "checkpoint_source": {"source": {"kind": "s3", "volume_ref": None, "path": None}},
    "file": "the file",  # as JSON, and so of ten bytes
    **{name: {"status": "done", "result": result} for name, result in _RESULTS.items()},
    "models": {
        "object": "list",
        "data": [
            {"id": MODEL, "parent": None, "max_model_len": 64, "policy_version": None},
            {"id": "live", "parent": MODEL, "max_model_len": 64, "policy_version": 3},
            {"id": SAMPLER_WEIGHTS, "parent": MODEL, "policy_version": 3},
        ],
    },
    "sample": {"id": "cmpl-1", "model": "live", "choices": [_CHOICE], "policy_version": 3},
}
_TEAM = "/v1/teams/t7/loops"


def _patterns() -> list[tuple[str, str, re.Pattern[str]]]:
    """Method, call and path of everything in the table of calls, below any prefix."""
    table = [one for one in vars(endpoints).values() if isinstance(one, endpoints.Endpoint)]
    listed = [(one.method, one.name, re.compile(".*" + re.sub(r"\{\w+\}", "[^/?]+", one.path))) for one in table]
    return [*listed, ("GET", "file", re.compile(".*/presigned"))]


class HostileServer:
    """Listens from `start` to `aclose`; `plan` says which calls are answered how, each list over and over again."""

    def __init__(self) -> None:
        self.plan: Mapping[str, Sequence[Answer]] = {}
        self.asked: Counter[str] = Counter()
        self.port = 0
        self._patterns = _patterns()
        self._operations: list[str] = []
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def calm(self, plan: Mapping[str, Sequence[Answer]]) -> None:
        """End every connection and begin anew."""
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        self.plan, self.asked, self._operations = plan, Counter(), []

    async def aclose(self) -> None:
        self._server.close()
        await self.calm({})

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._answered(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the case is over
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether another one may follow on the connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = re.search(r"(?im)^content-length: *(\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        method, path, _ = head.split(" ", 2)
        answer = self._answer(method, path.partition("?")[0])
        writer.write(answer.raw.replace(HERE.encode(), self.url.encode()))
        await writer.drain()
        if answer.ending == "hang":
            await asyncio.Event().wait()
        if answer.ending == "reset":
            sock: socket.socket = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            writer.transport.abort()
        return answer.ending == "keep"

    def _answer(self, method: str, path: str) -> Answer:
        call = self._call(method, path.replace(_TEAM, "/v1/loops"))
        self.asked[call] += 1
        if planned := self.plan.get(call):
            return planned[(self.asked[call] - 1) % len(planned)]
        good = {"operation_id": f"op-{len(self._operations) - 1}"} if call == "submit" else HONEST.get(call)
        status = b"404" if good is None else b"202" if call == "submit" else b"200"
        body = written(good)
        return Answer(b"HTTP/1.1 %b Said\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body), "keep")

    def _call(self, method: str, path: str) -> str:
        """The call's name: ``submit`` for all operations; polling has the name of what is polled for."""
        name = next((name for own, name, form in self._patterns if own == method and form.fullmatch(path)), "unknown")
        if name in _RESULTS:
            self._operations.append(name)
            return "submit"
        if name != "retrieve":
            return name
        number = path.rpartition("-")[2]
        known = number.isdecimal() and int(number) < len(self._operations)
        return self._operations[int(number)] if known else (self._operations or ["unknown"])[-1]
