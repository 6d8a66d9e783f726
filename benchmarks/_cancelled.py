"""A script that cancels an operation while the one before it is held up on its way; says when the one after it is done.

    python _cancelled.py loops_sdk_sync.tinker | tinker

It serves as much of a trainer as that takes, on the wire of Loops and on that of Tinker. Results of passes are not
among it: on the latter they are protocol buffers, and here only whether operations get through counts.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import threading
import time
from typing import Any

from aiohttp import web

PATIENCE_S = 30.0
ANSWERS: dict[str, dict[str, Any]] = {
    "create_session": {"session_id": "s"},
    "create_model": {"request_id": "model", "model_id": "m"},
    "get_info": {"model_data": {"model_name": "b"}, "model_id": "m"},
    "optim_step": {"request_id": "step", "model_id": "m", "operation_id": "step"},
    "telemetry": {"status": "accepted"},
    "step": {"status": "done", "result": {"metrics": {}}},
    "pass": {"status": "error", "error": {"message": "there is no result of it here"}},
}
RETRIEVED: dict[str, dict[str, Any]] = {"model": {"model_id": "m", "type": "create_model"}, "step": {"metrics": {}}}


class Trainer:
    """On a thread that ends with the process. The first pass waits on its way until `let_go`."""

    def __init__(self) -> None:
        self.came, self.let_go, self._listening = threading.Event(), threading.Event(), threading.Event()
        self.url = ""
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self._listening.wait()

    async def _serve(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._listening.set()
        await asyncio.Event().wait()

    async def _answer(self, request: web.Request) -> web.Response:
        name, body = request.path.rsplit("/", 1)[-1], await request.read()
        if name == "retrieve_future":
            return web.json_response(RETRIEVED.get(json.loads(body)["request_id"], {}))
        if name == "forward_backward":
            self.came.set()
            await asyncio.to_thread(self.let_go.wait)
            return web.json_response({"request_id": "pass", "model_id": "m", "operation_id": "pass"}, status=202)
        return web.json_response(ANSWERS.get(name, {}), status=202 if name == "optim_step" else 200)


def training_client(module: str, tinker: Any, url: str) -> Any:
    if module == "tinker":
        return tinker.ServiceClient(base_url=url, api_key="tml-nobody-checks").create_lora_training_client("b").result()
    from loops_sdk_sync import TrainingClient

    return tinker.TrainingClient(TrainingClient(url, base_model="b", api_key="nobody-checks"))


def main(module: str) -> float:
    tinker, trainer = importlib.import_module(module), Trainer()
    training = training_client(module, tinker, trainer.url)
    targets = tinker.TensorData([2, 3], "int64", [2])
    datum = tinker.Datum(tinker.ModelInput.from_ints([1, 2]), {"target_tokens": targets})
    first = training.forward_backward([datum], "cross_entropy")
    queued = training.forward_backward([datum], "cross_entropy")
    trainer.came.wait()
    assert queued.future().cancel()
    after = training.optim_step(tinker.AdamParams())
    trainer.let_go.set()
    started = time.perf_counter()
    try:
        after.result(PATIENCE_S)
    except TimeoutError:
        return PATIENCE_S
    finally:
        first.future().exception(PATIENCE_S)
    return time.perf_counter() - started


if __name__ == "__main__":
    print(main(sys.argv[1]), flush=True)
    os._exit(0)  # one of the two leaves threads behind that no program can end
