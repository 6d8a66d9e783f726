"""The routes of the Hugging Face Hub that an upload asks, with what they keep; large files come by LFS, as there."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import attrs
from aiohttp import web

TOKEN = "hf_thetokenofthetests"


@attrs.define
class Repo:
    """A repository: who sees it, and its branches with their files."""

    private: bool
    branches: dict[str, dict[str, bytes]] = attrs.field(factory=lambda: {"main": {}})
    messages: list[str] = attrs.field(factory=list)


@attrs.define(eq=False)
class Hub:
    """Holds repositories and uploaded objects. `refuse` answers instead, by the end of a path."""

    url: str = ""
    repos: dict[str, Repo] = attrs.field(factory=dict)
    objects: dict[str, bytes] = attrs.field(factory=dict)
    asked: list[str] = attrs.field(factory=list)
    refuse: dict[str, int] = attrs.field(factory=dict)

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._book], client_max_size=2**24)
        router = app.router
        router.add_post("/api/repos/create", self._create)
        router.add_post("/api/validate-yaml", self._valid)
        router.add_get("/api/models/{owner}/{name}", self._info)
        router.add_post("/api/models/{owner}/{name}/branch/{branch}", self._branch)
        router.add_post("/api/models/{owner}/{name}/preupload/{branch}", self._preupload)
        router.add_post("/api/models/{owner}/{name}/commit/{branch}", self._commit)
        router.add_post("/{owner}/{name}.git/info/lfs/objects/batch", self._batch)
        router.add_put("/objects/{oid}", self._object)
        return app

    @web.middleware
    async def _book(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if request.method != "PUT" and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"error": "Invalid username or password."}, status=401)
        for end, status in self.refuse.items():
            if request.path.endswith(end):
                return web.json_response({"error": f"status {status}\nas the test wants"}, status=status)
        response: web.StreamResponse = await handler(request)
        return response

    def _repo(self, request: web.Request) -> tuple[str, Repo]:
        name = f"{request.match_info['owner']}/{request.match_info['name']}"
        if name not in self.repos:
            raise web.HTTPNotFound(headers={"X-Error-Code": "RepoNotFound"})
        return name, self.repos[name]

    async def _create(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        known = name in self.repos
        if not known:
            private = wanted.get("visibility") == "private" or wanted.get("private") is True
            self.repos[name] = Repo(private)
        body = {"url": f"{self.url}/{name}", "id": name, "name": name}
        return web.json_response(body, status=409 if known else 200)

    async def _valid(self, _request: web.Request) -> web.Response:
        return web.json_response({"errors": [], "warnings": []})

    async def _info(self, request: web.Request) -> web.Response:
        name, repo = self._repo(request)
        return web.json_response({"id": name, "private": repo.private, "tags": [], "siblings": []})

    async def _branch(self, request: web.Request) -> web.Response:
        _, repo = self._repo(request)
        known = request.match_info["branch"] in repo.branches
        repo.branches.setdefault(request.match_info["branch"], {})
        return web.json_response({}, status=409 if known else 201)

    async def _preupload(self, request: web.Request) -> web.Response:
        _, repo = self._repo(request)
        if request.match_info["branch"] not in repo.branches:
            raise web.HTTPNotFound(headers={"X-Error-Code": "RevisionNotFound"})
        told = [
            {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular"}
            for file in (await request.json())["files"]
        ]
        return web.json_response({"files": [{**one, "shouldIgnore": False} for one in told]})

    async def _batch(self, request: web.Request) -> web.Response:
        asked = (await request.json())["objects"]
        told = [{**one, "actions": {"upload": {"href": f"{self.url}/objects/{one['oid']}"}}} for one in asked]
        return web.json_response({"transfer": "basic", "objects": told})

    async def _object(self, request: web.Request) -> web.Response:
        content = await request.read()
        assert hashlib.sha256(content).hexdigest() == request.match_info["oid"]
        self.objects[request.match_info["oid"]] = content
        return web.Response()

    async def _commit(self, request: web.Request) -> web.Response:
        name, repo = self._repo(request)
        branch = repo.branches[request.match_info["branch"]]
        for line in (await request.text()).splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                repo.messages.append(value["summary"])
            elif entry["key"] == "lfsFile":
                branch[value["path"]] = self.objects[value["oid"]]
            else:
                branch[value["path"]] = base64.b64decode(value["content"])
        return web.json_response({"commitUrl": f"{self.url}/{name}/commit/abc", "commitOid": "abc", "success": True})
