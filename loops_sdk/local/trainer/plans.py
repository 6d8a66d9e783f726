"""`Plans`: what each operation of a trainer does with its engine and its storage, and what is refused before that.

It knows neither HTTP nor order: a plan is made when a request comes, and carried out when its turn has come.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from loops_sdk._wire import endpoints
from loops_sdk._wire.bodies import ForwardBackwardBody, InitBody, LoadBody, OptimStepBody, SaveBody
from loops_sdk._wire.codec import decode_request
from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine import AdapterConfig, TrainingEngine
from loops_sdk.local.storage import RunRecord, Storage, checkpoint_path
from loops_sdk.types import CheckpointPath, InitTrainerServerResponse, LoadWeightsResponse, SaveWeightsResponse
from loops_sdk.types.checkpoints import check_name

__all__ = ["Plans", "Work"]

Work = Callable[[], Any]
_BODIES: dict[str, type[Any]] = {one.name: one.body for one in endpoints.OPERATIONS if one.body is not None}
_SEED_BITS = 53  #: of a seed that is drawn here and told: as many as every reader of JSON keeps


class Plans:
    """The operations of one run on one engine."""

    def __init__(self, storage: Storage, run: RunRecord, engine: TrainingEngine) -> None:
        self._storage, self.run, self.engine = storage, run, engine
        self._plans: dict[str, Callable[[Any], Work]] = {
            endpoints.FORWARD.name: partial(self._plan_pass, backward=False),
            endpoints.FORWARD_BACKWARD.name: partial(self._plan_pass, backward=True),
            endpoints.OPTIM_STEP.name: self._plan_step,
            endpoints.SAVE_STATE.name: partial(self._plan_save, kind="weights"),
            endpoints.SAVE_WEIGHTS_FOR_SAMPLER.name: partial(self._plan_save, kind="sampler_weights"),
            endpoints.LOAD_STATE.name: partial(self._plan_load, optimizer=False),
            endpoints.LOAD_STATE_WITH_OPTIMIZER.name: partial(self._plan_load, optimizer=True),
            endpoints.INIT_TRAINER_SERVER.name: self._plan_init,
        }

    def plan(self, name: str, body: bytes) -> Work:
        """What the operation `name` does for this request; gives its result.

        Raises:
            InvalidInputError, NotFoundError: it cannot be done.
        """
        return self._plans[name](decode_request(body, _BODIES[name]))

    def _plan_pass(self, body: ForwardBackwardBody, *, backward: bool) -> Work:
        self._check_lengths(body)
        self.engine.check(body.data, body.loss_fn, body.loss_fn_config)
        run_pass = self.engine.forward_backward if backward else self.engine.forward
        return lambda: run_pass(body.data, body.loss_fn, body.loss_fn_config)

    def _check_lengths(self, body: ForwardBackwardBody) -> None:
        most = self.run.max_seq_len
        for index, datum in enumerate(body.data):
            if most is not None and datum.model_input.length > most:
                raise InvalidInputError(
                    f"data[{index}].model_input: expected at most the run's max_seq_len of {most} tokens, "
                    f"got {datum.model_input.length}"
                )

    def _plan_step(self, body: OptimStepBody) -> Work:
        return lambda: self.engine.optim_step(body.adam_params)

    def _plan_save(self, body: SaveBody, *, kind: Any) -> Work:
        if body.run_id not in (None, self.run.id):
            raise InvalidInputError(f"run_id: this trainer serves run {self.run.id!r}, got {body.run_id!r}")
        if body.ttl_seconds is not None and body.ttl_seconds < 1:
            raise InvalidInputError(f"ttl_seconds: expected a whole number >= 1, got {body.ttl_seconds}")
        path = CheckpointPath(self.run.id, kind, check_name("name", body.name))
        return partial(self._save, path, body.ttl_seconds)

    def _save(self, path: CheckpointPath, ttl_seconds: int | None) -> SaveWeightsResponse:
        """Save and publish: the sampler follows the newest save, of either kind."""
        run, engine = self.run, self.engine
        saved = self._storage.save(
            path,
            partial(_write, engine, path.kind),
            base_model=run.base_model,
            adapter_config=dict(engine.adapter_config),
            policy_version=engine.step,
            ttl_seconds=ttl_seconds,
        )
        self._storage.publish(saved)
        self._storage.sweep(run.id)
        return SaveWeightsResponse(str(path), policy_version=saved.policy_version)

    def _plan_load(self, body: LoadBody, *, optimizer: bool) -> Work:
        path = checkpoint_path("path", body.path, "weights")
        self._storage.checkpoint(path)  # refuses one that is not there; read when its turn has come
        return partial(self.load, path, optimizer=optimizer)

    def load(self, path: CheckpointPath, *, optimizer: bool) -> LoadWeightsResponse:
        """Take over a checkpoint of any run. Nothing is published: the sampler keeps what was saved last.

        Raises:
            NotFoundError: there is no such checkpoint.
            RuntimeError: it does not fit; nothing has changed.
        """
        saved = self._storage.checkpoint(path)
        try:
            self.engine.load_state(saved.folder, optimizer=optimizer)
        except RuntimeError as error:
            raise RuntimeError(f"{path} does not fit this trainer, which stays as it was: {error}") from error
        return LoadWeightsResponse(str(path), policy_version=self.engine.step)

    def _plan_init(self, body: InitBody) -> Work:
        settings: dict[str, Any] = {"seed": secrets.randbits(_SEED_BITS)}
        settings |= {name: value for name, value in attrs.asdict(body).items() if value is not None}
        return partial(_init, self.engine, AdapterConfig(**settings))


def _init(engine: TrainingEngine, config: AdapterConfig) -> InitTrainerServerResponse:
    """Start over, and confirm everything that was set, also what was not asked for."""
    engine.init_adapter(config)
    return InitTrainerServerResponse(**attrs.asdict(config))


def _write(engine: TrainingEngine, kind: str, folder: Path) -> None:
    if kind == "weights":
        engine.save_state(folder)
    engine.save_adapter(folder)
