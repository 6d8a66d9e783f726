"""`RestClient` of the namespace: looks at runs and checkpoints. What Loops does not keep, it says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal, TypeAlias

import loops_sdk
import loops_sdk_sync
import loops_sdk_sync.tinker.types as types
from loops_sdk import CheckpointPath, InvalidInputError, NotFoundError
from loops_sdk_sync.tinker._calls import awaited, refuse, refused
from loops_sdk_sync.tinker._conversion import from_checkpoint, to_path
from loops_sdk_sync.tinker.lib.public_interfaces.api_future import APIFuture

__all__ = ["RestClient"]

AccessScope: TypeAlias = Literal["owned", "accessible"]

_NO_DELETE = "Loops cannot delete checkpoints; save with ttl_seconds, after which they go by themselves"
_NO_TTL = "Loops takes a lifetime only when a checkpoint is saved; pass ttl_seconds to save_state"
_NO_SHARING = "Loops does not publish checkpoints; the key decides who reads them"
_NO_COPIES = "Loops does not copy checkpoints; every run of the same team can load them"
_NO_ACCOUNTS = "Loops has no such pages of account and billing in its API"
_NO_SESSIONS = "Loops does not list or search sessions; list_training_runs shows what they trained"


class RestClient:
    """Looks at what there is. It opens no session.

    Args:
        base_url, api_key: as for `ServiceClient`.
    """

    def __init__(
        self,
        _service: loops_sdk_sync.ServiceClient | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
    ) -> None:
        if _service is None:
            core = loops_sdk.ServiceClient(api_key=api_key, base_url=base_url)
            _service = loops_sdk_sync.ServiceClient._alone(core)
        self._client = _service

    def __repr__(self) -> str:
        return f"<tinker.RestClient {self._client!r}>"

    # ------------------------------------------------------------------ runs

    def get_training_run(
        self, training_run_id: types.ModelID, access_scope: AccessScope = "owned"
    ) -> APIFuture[types.TrainingRun]:
        """A run with its newest checkpoints. Its `user_metadata` is `None`, and `last_request_time` is when it last
        saved, or was made: Loops keeps neither.

        Args:
            training_run_id: id of the run.
            access_scope: no difference: a run is found by its id wherever the key may read it.
        """
        _check_scope(access_scope)
        core = self._client._core

        async def look() -> types.TrainingRun:
            return await _training_run(core, await core.get_run_async(training_run_id))

        return APIFuture.of("get_training_run", self._client, look)

    get_training_run_async = awaited(get_training_run)

    def get_training_run_by_tinker_path(
        self, tinker_path: str, access_scope: AccessScope = "owned"
    ) -> APIFuture[types.TrainingRun]:
        """The run that saved a checkpoint.

        Args:
            tinker_path: path of the checkpoint.
            access_scope: as in `get_training_run`.
        """
        return self.get_training_run(CheckpointPath.parse(to_path(tinker_path, "tinker_path")).run_id, access_scope)

    get_training_run_by_tinker_path_async = awaited(get_training_run_by_tinker_path)

    def list_training_runs(
        self,
        limit: int = 20,
        offset: int = 0,
        access_scope: AccessScope = "owned",
        project_id: str | None = None,
    ) -> APIFuture[types.TrainingRunsResponse]:
        """Your own runs, newest first.

        Args:
            limit: most runs to show.
            offset: how many to skip.
            access_scope: ``"owned"``.
            project_id: not offered: Loops does not say which project a run belongs to.
        """
        if project_id is not None or access_scope != "owned":
            refuse("project_id, access_scope", "Loops lists your own runs, of all projects; leave these arguments out")
        _check_page(limit, offset)
        core = self._client._core

        async def look() -> types.TrainingRunsResponse:
            runs = sorted(await core.list_runs_async(), key=lambda run: run.created_at, reverse=True)
            shown = await asyncio.gather(*(_training_run(core, run) for run in runs[offset : offset + limit]))
            cursor = types.Cursor(offset=offset, limit=limit, total_count=len(runs))
            return types.TrainingRunsResponse(training_runs=list(shown), cursor=cursor)

        return APIFuture.of("list_training_runs", self._client, look)

    list_training_runs_async = awaited(list_training_runs)

    def get_session(self, session_id: str, access_scope: AccessScope = "owned") -> APIFuture[types.GetSessionResponse]:
        """The runs of a session, and their samplers.

        Args:
            session_id: id of the session.
            access_scope: as in `get_training_run`.
        """
        _check_scope(access_scope)
        core = self._client._core

        async def look() -> types.GetSessionResponse:
            runs = [run for run in await core.list_runs_async() if run.session_id == session_id]
            samplers = [run.sampler.id for run in runs if run.sampler is not None]
            return types.GetSessionResponse(training_run_ids=[run.id for run in runs], sampler_ids=samplers)

        return APIFuture.of("get_session", self._client, look)

    get_session_async = awaited(get_session)

    # ------------------------------------------------------------------ checkpoints

    def list_checkpoints(self, training_run_id: types.ModelID) -> APIFuture[types.CheckpointsListResponse]:
        """The checkpoints of a run, oldest first.

        Args:
            training_run_id: id of the run.
        """
        core = self._client._core

        async def look() -> types.CheckpointsListResponse:
            saved = await _checkpoints(core, training_run_id)
            return types.CheckpointsListResponse(checkpoints=[from_checkpoint(one) for one in saved])

        return APIFuture.of("list_checkpoints", self._client, look)

    list_checkpoints_async = awaited(list_checkpoints)

    def list_user_checkpoints(self, limit: int = 100, offset: int = 0) -> APIFuture[types.CheckpointsListResponse]:
        """The checkpoints of all your runs, newest first.

        Args:
            limit: most checkpoints to show.
            offset: how many to skip.
        """
        _check_page(limit, offset)
        core = self._client._core

        async def look() -> types.CheckpointsListResponse:
            by_run = await asyncio.gather(*(_checkpoints(core, run.id) for run in await core.list_runs_async()))
            saved = sorted((one for some in by_run for one in some), key=lambda one: one.created_at, reverse=True)
            page = [from_checkpoint(one) for one in saved[offset : offset + limit]]
            cursor = types.Cursor(offset=offset, limit=limit, total_count=len(saved))
            return types.CheckpointsListResponse(checkpoints=page, cursor=cursor)

        return APIFuture.of("list_user_checkpoints", self._client, look)

    list_user_checkpoints_async = awaited(list_user_checkpoints)

    def get_weights_info_by_tinker_path(self, tinker_path: str) -> APIFuture[types.WeightsInfoResponse]:
        """Base model and rank of a checkpoint.

        Args:
            tinker_path: path of the checkpoint.
        """
        core, address = self._client._core, to_path(tinker_path, "tinker_path")

        async def look() -> types.WeightsInfoResponse:
            saved = await core.list_checkpoints_async(CheckpointPath.parse(address).run_id)
            found = next((one for one in saved if one.path == address), None)
            if found is None:
                raise NotFoundError(f"tinker_path: there is no checkpoint {tinker_path}", status=404)
            return types.WeightsInfoResponse(base_model=found.base_model or "", is_lora=True, lora_rank=_rank([found]))

        return APIFuture.of("get_weights_info_by_tinker_path", self._client, look)

    def get_server_capabilities(self) -> APIFuture[types.GetServerCapabilitiesResponse]:
        """The models that the service offers."""
        core = self._client._core

        async def look() -> types.GetServerCapabilitiesResponse:
            offered = (await core.get_server_capabilities_async()).supported_models
            return types.GetServerCapabilitiesResponse(supported_models=[_model(one) for one in offered])

        return APIFuture.of("get_server_capabilities", self._client, look)

    def get_telemetry(self) -> None:
        """`None`: this package sends none."""

    # ------------------------------------------------------------------ what Loops has no counterpart of

    delete_checkpoint, delete_checkpoint_async = refused("RestClient.delete_checkpoint", _NO_DELETE)
    delete_checkpoint_from_tinker_path, delete_checkpoint_from_tinker_path_async = refused(
        "RestClient.delete_checkpoint_from_tinker_path", _NO_DELETE
    )
    set_checkpoint_ttl_from_tinker_path, set_checkpoint_ttl_from_tinker_path_async = refused(
        "RestClient.set_checkpoint_ttl_from_tinker_path", _NO_TTL
    )
    publish_checkpoint_from_tinker_path, publish_checkpoint_from_tinker_path_async = refused(
        "RestClient.publish_checkpoint_from_tinker_path", _NO_SHARING
    )
    unpublish_checkpoint_from_tinker_path, unpublish_checkpoint_from_tinker_path_async = refused(
        "RestClient.unpublish_checkpoint_from_tinker_path", _NO_SHARING
    )
    copy_weights, copy_weights_async = refused("RestClient.copy_weights", _NO_COPIES)
    get_external_weights_urls, get_external_weights_urls_async = refused(
        "RestClient.get_external_weights_urls", "Loops exports no weights; `loops checkpoints download` gets files"
    )
    get_sampler, get_sampler_async = refused("RestClient.get_sampler", "Loops does not say what a sampler serves")
    list_sessions, list_sessions_async = refused("RestClient.list_sessions", _NO_SESSIONS)
    search_sessions, _ = refused("RestClient.search_sessions", _NO_SESSIONS)
    export_session_trace, export_session_trace_async = refused("RestClient.export_session_trace", _NO_SESSIONS)
    assign_session_project, assign_session_project_async = refused(
        "RestClient.assign_session_project", "a session of Loops keeps its project; give it to ServiceClient"
    )
    whoami, _ = refused("RestClient.whoami", _NO_ACCOUNTS)
    get_audit_log, get_audit_log_async = refused("RestClient.get_audit_log", _NO_ACCOUNTS)
    get_billing_usage, get_billing_usage_async = refused("RestClient.get_billing_usage", _NO_ACCOUNTS)
    get_current_checkpoint_storage_usage, get_current_checkpoint_storage_usage_async = refused(
        "RestClient.get_current_checkpoint_storage_usage", _NO_ACCOUNTS
    )


async def _checkpoints(core: loops_sdk.ServiceClient, run_id: str) -> list[loops_sdk.Checkpoint]:
    return sorted(await core.list_checkpoints_async(run_id), key=lambda one: one.created_at)


async def _training_run(core: loops_sdk.ServiceClient, run: loops_sdk.Run) -> types.TrainingRun:
    saved = await _checkpoints(core, run.id)
    return types.TrainingRun(
        training_run_id=run.id,
        base_model=run.base_model,
        model_owner=run.user.email or "",
        is_lora=True,
        lora_rank=_rank(saved),
        last_request_time=saved[-1].created_at if saved else run.created_at,
        last_checkpoint=_newest(saved, "trainer"),
        last_sampler_checkpoint=_newest(saved, "sampler"),
    )


def _newest(saved: Sequence[loops_sdk.Checkpoint], target: str) -> types.Checkpoint | None:
    return next((from_checkpoint(one) for one in reversed(saved) if one.target == target), None)


def _rank(saved: Sequence[loops_sdk.Checkpoint]) -> int | None:
    """What the newest checkpoint says; the run itself does not."""
    rank = (saved[-1].lora_adapter_config or {}).get("r") if saved else None
    return rank if isinstance(rank, int) else None


def _model(model: loops_sdk.SupportedModel) -> types.SupportedModel:
    trainable = model.enabled and model.max_enabled_seq_len > 0
    return types.SupportedModel(
        model_name=model.model_name,
        max_context_length=model.max_seq_len,
        trainable=trainable,
        sampleable=model.enabled,
    )


def _check_scope(access_scope: object) -> None:
    if access_scope not in ("owned", "accessible"):
        raise InvalidInputError(f"access_scope: expected 'owned' or 'accessible', got {access_scope!r}")


def _check_page(limit: int, offset: int) -> None:
    for name, value in (("limit", limit), ("offset", offset)):
        if type(value) is not int or value < 0:
            raise InvalidInputError(f"{name}: expected a whole number >= 0, got {value!r}")
