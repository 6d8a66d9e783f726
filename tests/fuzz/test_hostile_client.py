"""Whatever a client sends: an answer in the server's own form, never a failure of the server, no file of its making."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources

import pytest
from attacked import NAMES, Attacked, Name, Reply
from fuzz_figures import REQUESTS, figures
from hostile_requests import GOOD, KEY, Request, requests
from hypothesis import given, note, settings
from hypothesis import strategies as st
from logged import Logged, everything_logged

_WEB = resources.files("loops_sdk.local.control_plane.page") / "web"
#: The page's own files, which are the same for everybody. A HEAD has none of it.
PAGE = {b"", *(file.read_bytes() for file in _WEB.iterdir())}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    made = Attacked(tmp_path_factory.mktemp("attacked"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def logged() -> Iterator[Logged]:
    with everything_logged() as handler:
        yield handler


def said(name: Name, reply: Reply) -> str:
    """The text of a refusal, from the one place where this server puts it."""
    if name == "trainer":
        text = reply.body["detail"]
    else:
        text = reply.body["error"]["message"] if name == "sampler" else reply.body["message"]
    assert isinstance(text, str)
    return text


def of_the_page(path: str) -> bool:
    path = path.partition("?")[0]
    return path == "/" or path.startswith("/page/")


def judge(attacked: Attacked, name: Name, request: Request, reply: Reply) -> None:
    assert 200 <= reply.status < 500, "a server failed"
    page = name == "control plane" and request.method in ("GET", "HEAD") and of_the_page(request.path)
    if not request.keyed:  # files have a signature of their own in their addresses, which nobody can guess
        signed = name == "control plane" and request.path.startswith("/files/")
        keyless = (403, 404, 422) if signed else (200, 404, 422) if page else ()
        assert reply.status in (400, 401, *keyless), "an answer without the key"
    if reply.status >= 300 and reply.json and request.method != "HEAD":
        assert len(said(name, reply)) < 20_000
        assert KEY not in said(name, reply)
    if page and reply.status == 200:
        assert reply.body in PAGE
    elif not reply.json:  # what the parser of HTTP itself refuses does not reach the application
        assert reply.status in (400, 413, 414, 431)
    assert attacked.strangers() == []


@pytest.mark.parametrize("name", NAMES)
def test_the_bodies_that_are_changed_are_good_ones(attacked: Attacked, name: Name) -> None:
    """Else the cases would prove nothing. Those of runs and samplers name a session that there is not."""
    own = [path for method, path in attacked.routes(name) if method == "POST" and path in GOOD]
    assert own
    for path in own:
        body = json.dumps(GOOD[path]).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n"
        assert attacked.ask(name, head.encode() + b"Connection: close\r\n\r\n" + body).status in (200, 202, 404)


@settings(max_examples=REQUESTS)
@given(data=st.data())
def test_whatever_a_client_sends(attacked: Attacked, logged: Logged, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    request = data.draw(requests(attacked.routes(name)))
    figures["hostile requests"] += 1
    reply = attacked.ask(name, request.raw, head=request.method == "HEAD")
    note(f"{name}: {reply}")
    figures["requests granted" if reply.status < 300 else "requests refused"] += 1
    judge(attacked, name, request, reply)
    assert [line for line in logged.look() if KEY in line] == []
