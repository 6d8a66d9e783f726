"""Requests that no honest client makes: any method, path, query, header and body, as the bytes of one HTTP request."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from hostile_json import JSON, mutated, written
from hostile_packing import packed
from hypothesis import strategies as st

KEY = "the-key-of-the-servers-under-attack"
#: One good body for every route that takes one; the hostile ones are made of it.
GOOD: dict[str, Any] = {
    "/forward": {
        "data": [
            {
                "model_input": {"chunks": [{"type": "encoded_text", "tokens": [1, 2, 3]}]},
                "loss_fn_inputs": {"target_tokens": {"data": [2, 3, 4], "dtype": "int64", "shape": [3]}},
            }
        ],
        "loss_fn": "cross_entropy",
        "loss_fn_config": {},
    },
    "/optim_step": {"adam_params": {"learning_rate": 0.1, "beta1": 0.9, "grad_clip_norm": 1.0}},
    "/save_state": {"name": "a", "trainer_server_id": "run7", "run_id": "run7", "ttl_seconds": 60},
    "/save_weights_for_sampler": {"name": "a", "trainer_server_id": "run7"},
    "/load_state": {"path": "bt://loops:run7/weights/a"},
    "/init_trainer_server": {"lora_rank": 4, "lora_alpha": 8, "seed": 1},
    "/v1/completions": {
        "model": "double/model",
        "prompt": [1, 2],
        "n": 1,
        "max_tokens": 2,
        "temperature": 0.5,
        "top_k": 3,
        "seed": 1,
        "logprobs": 0,
        "prompt_logprobs": 0,
        "stop": ["x"],
        "return_token_ids": True,
    },
    "/v1/loops/sessions": {"training_project_id": "p"},
    "/v1/loops/runs": {"session_id": "s", "base_model": "double/model", "name": "n", "lora_rank": 8, "seed": 1},
    "/v1/loops/trainers": {"session_id": "s", "base_model": "double/model", "path": "bt://loops:run7/weights/x"},
    "/v1/loops/samplers": {"session_id": "s", "run_id": "run7", "model_path": "bt://loops:run7/sampler_weights/x"},
}
GOOD["/forward_backward"] = GOOD["/forward"]
GOOD["/load_state_with_optimizer"] = GOOD["/load_state"]

#: What stands in a path where an id belongs. Already encoded: some of it is wrong on purpose.
_PARTS = st.sampled_from(
    [
        "run7",
        "smp7",
        "..",
        ".",
        "%2e%2e",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%00",
        "run7%00.json",
        "a%2Fb",
        "%5c..%5c",
        "C:%5cx",
        "%",
        "%zz",
        "%ff",
        "%c0%ae%c0%ae",
        "%F0%9F%92%A9",
        "~",
        "-",
        ".lock",
        "run7.json",
        ";a=b",
        "*",
        "%0d%0aX-Evil:1",
        "%ed%a0%80",
        "é",
        "$(id)",
        "'",
        "{run_id}",
    ]
) | st.text(max_size=8).map(lambda text: quote(text, safe="")).map(lambda text: text or "x" * 4000)
_PATHS = st.one_of(
    st.lists(_PARTS, min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts)),
    st.sampled_from(
        ["*", "//", "/..", "http://evil.example/x", "http://[::1/x", "evil.example:443", "/v1/loops", "/?"]
    ),
    st.just("/" + "a/" * 3000),
)
_METHODS = st.sampled_from(["GET", "POST"] * 4 + ["PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "TRACE", "BREW", "get"])
_NAMES = ["run_id", "base_model", "checkpoint_path", "scope", "model", "use_case", "max_seq_len", "page_size", "name"]
_QUERIES = st.lists(
    st.tuples(st.sampled_from([*_NAMES, "x", "", "%00"]), _PARTS).map("=".join)
    | st.sampled_from(["&", "=", "%", "??"]),
    max_size=2,
).map("&".join)
_WRONG_KEYS = ["", "other", "k" * 5000, f"{KEY}x", KEY[:-1], f"{KEY},{KEY}"]
_AUTHORIZATIONS = st.sampled_from(
    [b"", b"Bearer", b"Bearer \xff\xfe", b"Basic " + KEY.encode(), KEY.encode()]
) | st.sampled_from(_WRONG_KEYS).map(lambda key: f"Bearer {key}".encode())
_VALUES = st.sampled_from(
    [b"", b"1", b"-1", b"nan", b"1e308", b"9" * 30, b"\xff", b"x" * 300, b"x" * 7000, b"a b", b"\xd9\xa3", b"k1", b"*"]
)
_HEADERS = st.one_of(
    st.tuples(
        st.sampled_from(
            b"Idempotency-Key X-Min-Policy-Version X-Request-Id X-Affinity-Key Range Accept Content-Type Cookie "
            b"Forwarded X-Forwarded-Host Origin If-None-Match Upgrade".split()
        ),
        _VALUES,
    ),
    st.tuples(
        st.just(b"Host"), st.sampled_from([b"", b"[", b"a b", b"evil.example", b"x:99999", b"\xff", b"x/y", b"a@b"])
    ),
    st.tuples(st.just(b"Content-Encoding"), st.sampled_from([b"gzip", b"deflate", b"br", b"nonsense", b""])),
)


class Request:
    """A request and what is known about it. A plain class: hypothesis shows all fields of others.

    Args:
        keyed: whether it carries the right key.
    """

    def __init__(self, method: str, path: str, raw: bytes, keyed: bool) -> None:
        self.method, self.path, self.raw, self.keyed = method, path, raw, keyed

    def __repr__(self) -> str:
        return f"Request({self.raw[:600]!r}, {len(self.raw)} bytes)"


@st.composite
def requests(draw: st.DrawFn, routes: Sequence[tuple[str, str]]) -> Request:
    """A hostile request to a server with these routes: mostly something that reaches one of them."""
    method, path = draw(st.sampled_from(list(routes))) if draw(st.integers(0, 3)) else (draw(_METHODS), draw(_PATHS))
    if draw(st.integers(0, 9)) == 0:
        method = draw(_METHODS)
    body = draw(_bodies(path))
    while "{" in path:
        before, _, rest = path.partition("{")
        path = before + draw(_PARTS).replace("{", "") + rest.partition("}")[2]
    query = draw(_QUERIES) if draw(st.integers(0, 2)) == 0 else ""
    keyed = bool(draw(st.integers(0, 7)))
    key = f"Bearer {KEY}".encode() if keyed else draw(_AUTHORIZATIONS)
    headers = draw(st.lists(_HEADERS, max_size=2, unique_by=lambda item: item[0]))
    return _assembled(method, f"{path}?{query}" if query else path, [(b"Authorization", key), *headers], body, keyed)


def _bodies(path: str) -> st.SearchStrategy[bytes]:
    own = GOOD.get(path)
    noise = st.one_of(st.just(b""), st.binary(max_size=60), JSON.map(written), st.just(b"[" * 100_000))
    if own is None:
        return noise
    changed = mutated(own).map(written)
    return st.one_of(changed, changed, changed, packed(own), st.just(written(own)), noise)


def _assembled(method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes, keyed: bool) -> Request:
    if (b"Content-Encoding", b"gzip") in headers and len(body) % 2:  # every other one tells the truth
        body = gzip.compress(body)
    given = dict(headers)
    lines = [
        b"%b: %b" % item for item in {b"Host": b"127.0.0.1", **given, b"Content-Length": b"%d" % len(body)}.items()
    ]
    first = f"{method} {target} HTTP/1.1".encode("utf-8", "surrogatepass")
    return Request(method, target, b"\r\n".join([first, *lines, b"Connection: close", b"", body]), keyed)
