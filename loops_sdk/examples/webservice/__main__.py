"""A web service whose model learns from its users: answers stream, feedback trains, adapters swap under load.

    loops examples run webservice

Open the address that it prints. Ask what the model does not know ("When does the ferry leave?"), correct the answer,
watch the loss fall and the policy version rise, and ask again. Look at `learning.py`: one task trains and publishes,
and `self.policy = ...` is the whole swap. An answer keeps the policy that it began with (`answering.py`), so that none
is dropped or changes its mind half-way, and says which version spoke. Ctrl-C lets answers finish, ends training at the
next step and saves its state. `README.md` tells what a service of your own has to add.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from loops_sdk import Renderer, ServiceClient

try:
    import uvicorn
    from app import web_app
    from learning import Learner
    from starlette.applications import Starlette
except ModuleNotFoundError as error:
    sys.exit(f"{error}: this example needs starlette and uvicorn: pip install 'loops-sdk[examples]'")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A web service whose model learns from its users.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on, 0 for a free one (%(default)s)")
    parser.add_argument("--most", type=int, default=64, help="answers given at the same time (%(default)s)")
    parser.add_argument("--rank", type=int, default=16, help="rank of the LoRA adapter (%(default)s)")
    parser.add_argument("--steps", type=int, default=16, help="most optimizer steps per round (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="Adam's step size (%(default)s)")
    parser.add_argument("--resume", metavar="PATH", help="go on from the state that an earlier run has saved")
    return parser.parse_args()


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """The clients live as long as the application. What fails here closes what was opened before it."""
    chosen: argparse.Namespace = app.state.options
    base_model = os.environ.get("LOOPS_BASE_MODEL", "Qwen/Qwen3-8B")
    async with ServiceClient() as service:
        if chosen.resume:
            training = await service.create_training_client_from_state_with_optimizer_async(chosen.resume)
        else:
            training = await service.create_lora_training_client_async(base_model, rank=chosen.rank, with_sampler=True)
        renderer = Renderer(await training.get_tokenizer_async())
        async with Learner(training, renderer, steps=chosen.steps, learning_rate=chosen.learning_rate) as learner:
            app.state.learner = learner
            yield


class Server(uvicorn.Server):
    """Says where it listens once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        print(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)


def main() -> None:
    chosen = options()
    app = web_app(lifespan, most=chosen.most)
    app.state.options = chosen
    try:
        listener = socket.create_server((chosen.host, chosen.port))
    except OSError as error:
        sys.exit(f"cannot listen on {chosen.host}:{chosen.port} ({error}); choose another --port, 0 for any")
    # Ctrl-C: answers that run have ten seconds to finish, then the lifespan ends. A second one waits for nothing.
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=10)
    with listener, suppress(KeyboardInterrupt):  # which uvicorn raises again when all is closed
        Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
