"""The page's own files: a handful, known by name, read once. They hold nothing of a deployment and want no key; the key
is in the fragment of the page's address, which no browser sends.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from aiohttp import web

from loops_sdk.errors import NotFoundError
from loops_sdk.local.serving import query

__all__ = ["KEYLESS", "add_files"]

#: Names of the routes that want no key.
KEYLESS = ("page", "page_file")

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def add_files(app: web.Application) -> None:
    """Serve the page at ``/`` and what it is made of below ``/page``."""
    page, file = KEYLESS
    app.router.add_get("/", _index, name=page)
    app.router.add_get("/page/{name}", _file, name=file)


async def _index(request: web.Request) -> web.Response:
    query(request)
    return _reply("index.html")


async def _file(request: web.Request) -> web.Response:
    query(request)
    return _reply(request.match_info["name"])


def _reply(name: str) -> web.Response:
    body = _files().get(name)
    if body is None:
        raise NotFoundError(f"the page has no file {name[:80]!r}", status=404)
    kind = _TYPES[name.rpartition(".")[2]]
    return web.Response(body=body, content_type=kind, charset="utf-8", headers=_HEADERS)


@cache
def _files() -> dict[str, bytes]:
    folder = resources.files("loops_sdk.local.control_plane.page") / "web"
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.name.rpartition(".")[2] in _TYPES}
