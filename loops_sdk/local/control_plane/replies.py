"""How records look to clients: runs, samplers, and the deployments on which they run, as the protocol describes them.

It reads the registry and changes nothing.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from loops_sdk.errors import NotFoundError
from loops_sdk.local.control_plane.machine import this_machine
from loops_sdk.local.control_plane.registry import Registry
from loops_sdk.local.storage import RunRecord, SamplerRecord
from loops_sdk.types import Deactivated, Run, Sampler, Status, TrainerDeployment, User

__all__ = ["NOBODY", "Replies", "deactivated"]

#: There are no users here.
NOBODY = User()
_WILDCARDS = ("0.0.0.0", "::", "")


class Replies:
    """What clients are shown.

    Args:
        host: where trainers and samplers listen. When they listen everywhere, clients are told the host by which they
            reached the control plane.
    """

    def __init__(self, registry: Registry, host: str) -> None:
        self._registry, self._host = registry, host

    def run(self, request: web.Request, run: RunRecord) -> Run:
        """A run with its paired sampler, if it has one."""
        return Run(
            id=run.id,
            session_id=run.session_id,
            name=run.name,
            base_model=run.base_model,
            base_url=self._trainer_url(request, run),
            created_at=run.created_at,
            status=Status("INACTIVE" if self._registry.port(run) is None else "ACTIVE"),
            user=NOBODY,
            deployment_id=run.deployment_id,
            lora_config_version="v1",
            sampler=self._sampler_of(request, run),
        )

    def sampler(self, request: web.Request, sampler: SamplerRecord) -> Sampler:
        """A sampler, up or not."""
        return Sampler(
            id=sampler.id,
            base_url=self._url(request, self._registry.port(sampler), f"samplers/{sampler.id}/server"),
            base_model=sampler.base_model,
            created_at=sampler.created_at,
            status=Status(self._registry.sampler_state(sampler)),
            user=NOBODY,
            model_id=sampler.model_id,
            deployment_id=sampler.deployment_id,
            instance_type=this_machine(),
        )

    # ------------------------------------------------------------ deployments

    def deployments(self, request: web.Request) -> list[TrainerDeployment]:
        """What trainers run on, in every state; the one with the newest run first."""
        return [self._deployment(request, runs) for runs in self._by_deployment().values()]

    def deployment(self, request: web.Request, deployment_id: str) -> TrainerDeployment:
        """One of them.

        Raises:
            NotFoundError: there is none with this id.
        """
        return self._deployment(request, self._runs_on(deployment_id))

    def latest_run(self, deployment_id: str) -> RunRecord:
        """The newest run of a deployment, active or not.

        Raises:
            NotFoundError: there is no such deployment.
        """
        return self._runs_on(deployment_id)[0]

    def _runs_on(self, deployment_id: str) -> list[RunRecord]:
        runs = self._by_deployment().get(deployment_id)
        if runs is None:
            raise NotFoundError(f"there is no deployment {deployment_id!r}", status=404)
        return runs

    def _by_deployment(self) -> dict[str, list[RunRecord]]:
        found: dict[str, list[RunRecord]] = {}
        for run in self._registry.runs():
            if run.deployment_id is not None:
                found.setdefault(run.deployment_id, []).append(run)
        return found

    def _deployment(self, request: web.Request, runs: list[RunRecord]) -> TrainerDeployment:
        """`runs` are those it has served, newest first; each took over from the one before."""
        latest, first = runs[0], runs[-1]
        return TrainerDeployment(
            id=str(latest.deployment_id),
            base_model=latest.base_model,
            base_url=self._trainer_url(request, latest),
            created_at=first.created_at,
            status=Status(self._registry.trainer_state(latest)),
            user=NOBODY,
            active_run_id=None if self._registry.port(latest) is None else latest.id,
            latest_run_id=latest.id,
            availability_model=latest.availability_model,
            instance_type=this_machine(),
            sampler=self._sampler_of(request, latest),
        )

    def model_deployment(self, model_id: str, deployment_id: str) -> dict[str, Any]:
        """What a sampler runs on.

        Raises:
            NotFoundError: no sampler runs on it.
        """
        ids = (model_id, deployment_id)
        found = (one for one in self._registry.storage.samplers() if (one.model_id, one.deployment_id) == ids)
        sampler = next(found, None)
        if sampler is None:
            raise NotFoundError(f"there is no deployment {deployment_id!r} of a model {model_id!r}", status=404)
        state = self._registry.sampler_state(sampler)
        return {
            "id": deployment_id,
            "name": f"sampler {sampler.id}",
            "model_id": model_id,
            "created_at": sampler.created_at,
            "is_production": True,
            "is_development": False,
            "status": state,
            "active_replica_count": 1 if state == "ACTIVE" else 0,
            "autoscaling_settings": None,
            "instance_type_name": this_machine().name,
            "environment": None,
            "labels": None,
            "region": None,
            "request_backpressure_settings": {"policy": None},
        }

    # ------------------------------------------------------------ addresses

    def _sampler_of(self, request: web.Request, run: RunRecord) -> Sampler | None:
        sampler = self._registry.sampler_of(run.id)
        return self.sampler(request, sampler) if sampler else None

    def _trainer_url(self, request: web.Request, run: RunRecord) -> str:
        return self._url(request, self._registry.port(run), f"runs/{run.id}/trainer")

    def _url(self, request: web.Request, port: int | None, gone: str) -> str:
        """Where a server listens. One that is gone gets an address of the control plane that answers 404."""
        if port is None:
            return f"{request.url.origin()}/v1/loops/{gone}"
        here = request.url.host or "127.0.0.1"
        host = here if self._host in _WILDCARDS else self._host
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def deactivated(record: RunRecord | SamplerRecord, name: str | None = None) -> Deactivated:
    """The reply about something that was told to stop; `name` is its id when that is not the record's."""
    return Deactivated(name or record.id, record.base_model, NOBODY)
