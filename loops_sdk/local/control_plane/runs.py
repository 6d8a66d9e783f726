"""The routes of runs, samplers and deployments. What they make and end is the registry's business, how it looks that of
`Replies`.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web

from loops_sdk._wire import endpoints
from loops_sdk._wire.bodies import CreateRunBody, CreateSamplerBody
from loops_sdk.errors import InvalidInputError
from loops_sdk.local.control_plane.registry import Registry
from loops_sdk.local.control_plane.replies import Replies, deactivated
from loops_sdk.local.control_plane.routes import NoFields, Route, reply
from loops_sdk.local.serving import query, read_request
from loops_sdk.local.storage import RunRecord

__all__ = ["RunRoutes"]


class RunRoutes:
    """Runs, samplers and deployments over HTTP."""

    def __init__(self, registry: Registry, replies: Replies) -> None:
        self._registry, self._replies = registry, replies

    def routes(self) -> Iterator[Route]:
        """What is called where."""
        yield endpoints.CREATE_RUN, self._create_run
        yield endpoints.CREATE_TRAINER, self._create_trainer
        yield endpoints.LIST_RUNS, self._list_runs
        yield endpoints.GET_RUN, self._get_run
        yield endpoints.DEACTIVATE_RUN, self._end_run
        yield endpoints.CREATE_SAMPLER, self._create_sampler
        yield endpoints.LIST_SAMPLERS, self._list_samplers
        yield endpoints.GET_SAMPLER, self._get_sampler
        yield endpoints.DEACTIVATE_SAMPLER, self._end_sampler
        yield endpoints.LIST_DEPLOYMENTS, self._list_deployments
        yield endpoints.GET_DEPLOYMENT, self._get_deployment
        yield endpoints.DEACTIVATE_DEPLOYMENT, self._end_deployment
        yield endpoints.MODEL_DEPLOYMENT, self._get_model_deployment

    # ------------------------------------------------------------ runs

    async def _create_run(self, request: web.Request) -> web.Response:
        body = await read_request(request, CreateRunBody)
        return self._run_reply(request, await self._registry.create_run(body, with_sampler=True))

    async def _create_trainer(self, request: web.Request) -> web.Response:
        body = await read_request(request, CreateRunBody)
        if body.sampler_num_replicas is not None:
            raise InvalidInputError("sampler_num_replicas: a run without a sampler has no such field")
        return self._run_reply(request, await self._registry.create_run(body, with_sampler=False))

    async def _list_runs(self, request: web.Request) -> web.Response:
        wanted = _with_scope(query(request, "run_id", "base_model", "scope"))
        runs = [
            self._replies.run(request, run)
            for run in self._registry.runs()
            if run.id == wanted.get("run_id", run.id) and run.base_model == wanted.get("base_model", run.base_model)
        ]
        return reply({"runs": runs})

    async def _get_run(self, request: web.Request) -> web.Response:
        query(request)
        return self._run_reply(request, self._registry.storage.run(request.match_info["run_id"]))

    async def _end_run(self, request: web.Request) -> web.Response:
        await read_request(request, NoFields)
        return reply(deactivated(await self._registry.end_run(request.match_info["run_id"])))

    def _run_reply(self, request: web.Request, run: RunRecord) -> web.Response:
        return reply({"run": self._replies.run(request, run)})

    # ------------------------------------------------------------ samplers

    async def _create_sampler(self, request: web.Request) -> web.Response:
        sampler = await self._registry.create_sampler(await read_request(request, CreateSamplerBody))
        return reply({"sampler": self._replies.sampler(request, sampler)})

    async def _list_samplers(self, request: web.Request) -> web.Response:
        _with_scope(query(request, "scope"))
        return reply({"samplers": [self._replies.sampler(request, one) for one in self._registry.samplers()]})

    async def _get_sampler(self, request: web.Request) -> web.Response:
        query(request)
        sampler = self._registry.storage.sampler(request.match_info["sampler_id"])
        return reply({"sampler": self._replies.sampler(request, sampler)})

    async def _end_sampler(self, request: web.Request) -> web.Response:
        await read_request(request, NoFields)
        return reply(deactivated(await self._registry.end_sampler(request.match_info["sampler_id"])))

    # ------------------------------------------------------------ deployments

    async def _list_deployments(self, request: web.Request) -> web.Response:
        _with_scope(query(request, "scope"))
        return reply({"deployments": self._replies.deployments(request)})

    async def _get_deployment(self, request: web.Request) -> web.Response:
        query(request)
        return reply({"deployment": self._replies.deployment(request, request.match_info["deployment_id"])})

    async def _end_deployment(self, request: web.Request) -> web.Response:
        await read_request(request, NoFields)
        deployment_id = request.match_info["deployment_id"]
        run = await self._registry.end_run(self._replies.latest_run(deployment_id).id)
        return reply(deactivated(run, deployment_id))

    async def _get_model_deployment(self, request: web.Request) -> web.Response:
        query(request)
        parts = request.match_info
        return reply(self._replies.model_deployment(parts["model_id"], parts["deployment_id"]))


def _with_scope(wanted: dict[str, str]) -> dict[str, str]:
    """The query as it is: there is nobody else, so the caller's own and everybody's are the same."""
    if wanted.get("scope", "org") != "org":
        raise InvalidInputError(f"scope: expected 'org', got {wanted['scope']!r}")
    return wanted
