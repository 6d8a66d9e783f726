"""The local page's files and JSON: what a browser is given, from real servers over an engine without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import double_engine
import pytest

from loops_sdk.local.control_plane.page.curves import read_curves
from loops_sdk.local.control_plane.page.lines import parsed, read_after, read_before
from loops_sdk.local.operations import Told
from loops_sdk.local.sampler import Sampler
from loops_sdk.local.trainer import Trainer, history

from .conftest import KEY, Peer, Serve, batch, until
from .plane import Plane, started


@pytest.fixture
async def plane(tmp_path: Path, serve: Serve) -> Plane:
    return await started(tmp_path, serve)


@pytest.fixture
def engine() -> double_engine.Trainer:
    return double_engine.Trainer()


async def trained(plane: Plane, serve: Serve, engine: double_engine.Trainer, **options: Any) -> tuple[str, Peer]:
    """A run and its trainer, which listens where the launcher says."""
    run_id = (await plane.run("trainers"))["id"]
    trainer = Trainer(plane.storage, api_key=KEY, **options)
    peer = await serve(trainer.app)
    await trainer.open(plane.storage.run(run_id), engine)
    at(plane, run_id, peer)
    return run_id, peer


def at(plane: Plane, name: str, peer: Peer) -> None:
    launched = plane.launcher.launched[name]
    launched.state, launched.port = "ready", int(peer.url.rpartition(":")[2])


async def ended(plane: Plane, run_id: str) -> None:
    assert (await plane.peer.send("POST", f"/v1/loops/runs/{run_id}/deactivate")).status == 200


async def told(plane: Plane, path: str, **query: Any) -> Any:
    answer = await plane.peer.get(f"/local/v1/runs{path}", params=query)
    assert answer.status == 200, answer
    return answer.json


# ---------------------------------------------------------------- the page itself


@pytest.mark.parametrize("path", ["/", "/page/page.css", "/page/main.js"])
async def test_the_page_wants_no_key_and_may_do_nothing_but_ask_its_own_server(plane: Plane, path: str) -> None:
    async with plane.peer.session.get(plane.peer.url + path) as response:
        body = await response.text()
        assert response.status == 200
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert "http://" not in body.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in body


def test_no_script_stands_in_the_page_and_none_makes_markup_of_text() -> None:
    web = Path(read_curves.__code__.co_filename).with_name("web")
    index = (web / "index.html").read_text()
    assert " on" not in "".join(tag.partition(">")[0] for tag in index.split("<") if "=" in tag).replace(" one", "")
    assert index.count("<script") == 1
    assert 'src="/page/main.js"' in index
    for script in web.glob("*.js"):
        for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
            assert forbidden not in script.read_text(), script


@pytest.mark.parametrize("name", ["routes.py", "..%2froutes.py", "%2e%2e%2f%2e%2e%2fserver.py", "index.html%00", "x"])
async def test_there_are_no_other_files(plane: Plane, name: str) -> None:
    answer = await plane.peer.get(f"/page/{name}")
    assert answer.status == 404


@pytest.mark.parametrize("path", ["", "/r", "/r/operations", "/r/metrics", "/r/checkpoints"])
async def test_what_the_page_shows_wants_the_key(plane: Plane, path: str) -> None:
    answer = await plane.peer.get(f"/local/v1/runs{path}", headers={"Authorization": "Bearer another"})
    assert answer.status == 401


# ---------------------------------------------------------------- runs


async def test_a_run_in_a_line(plane: Plane, serve: Serve, engine: double_engine.Trainer) -> None:
    run_id, peer = await trained(plane, serve, engine)
    (fresh,) = (await told(plane, ""))["runs"]
    await peer.do("/forward_backward", batch(1, 2))
    await peer.do("/optim_step", {})
    await peer.do("/save_weights_for_sampler", {"name": "one"})
    await peer.do("/forward_backward", batch(1, 2))
    await peer.do("/optim_step", {})
    listed = await told(plane, "")
    (run,) = listed["runs"]
    assert (fresh["policy_version"], fresh["published_version"]) == (0, None)
    assert (run["policy_version"], run["published_version"]) == (2, 1)
    assert (run["id"], run["state"], run["base_model"], run["rank"]) == (run_id, "RUNNING", "double/model", 64)
    assert run["created_at"] <= run["last_activity"] <= listed["now"]
    assert (await told(plane, f"/{run_id}"))["run"]["policy_version"] == 2


async def test_a_run_that_has_ended(plane: Plane, serve: Serve, engine: double_engine.Trainer) -> None:
    run_id, peer = await trained(plane, serve, engine)
    await peer.do("/forward_backward", batch(1, 2))
    await ended(plane, run_id)
    (run,) = (await told(plane, ""))["runs"]
    assert run["state"] == "STOPPED"
    assert run["last_activity"] == run["ended_at"]
    (operation,) = (await told(plane, f"/{run_id}/operations"))["operations"]  # what it did outlives it
    assert operation["operation"] == "forward_backward"


async def test_a_run_that_starts_from_weights_has_no_version_yet(plane: Plane) -> None:
    first = (await plane.run())["id"]
    path = plane.save(first, "weights", "a")
    second = await plane.run(path=path)
    assert (await told(plane, f"/{second['id']}"))["run"]["policy_version"] is None


async def test_there_are_no_more_runs_in_a_list_than_were_asked_for(plane: Plane) -> None:
    made = [(await plane.run())["id"] for _ in range(3)]
    listed = await told(plane, "", limit="2")
    assert listed["total"] == 3
    assert [run["id"] for run in listed["runs"]] == made[:0:-1]


# ---------------------------------------------------------------- operations


@pytest.mark.parametrize("durable", [True, False])
async def test_operations_newest_first_with_what_came_of_them(
    plane: Plane, serve: Serve, engine: double_engine.Trainer, durable: bool
) -> None:
    run_id, peer = await trained(plane, serve, engine, durable=durable)
    await peer.do("/forward_backward", batch(1, 2))
    await peer.do("/optim_step", {})
    failing = await peer.submit("/forward_backward", {**batch(3), "loss_fn_config": {"fail": 1}})
    await peer.get(f"/operations/{failing}")
    await peer.do("/save_state", {"name": "a"})
    saved, failed, step, passed = (await told(plane, f"/{run_id}/operations"))["operations"]
    assert (saved["operation"], saved["path"]) == ("save_state", f"bt://loops:{run_id}/weights/a")
    assert (failed["id"], failed["error"]) == (failing, "ArithmeticError: failed on purpose")
    assert (step["policy_version"], step["grad_norm"] > 0) == (1, True)
    assert passed["loss"] > 0
    for one in (saved, failed, step, passed):
        assert one["accepted_at"] <= one["started_at"] <= one["finished_at"]


async def test_what_runs_and_what_waits(plane: Plane, serve: Serve, engine: double_engine.Trainer) -> None:
    run_id, peer = await trained(plane, serve, engine)
    engine.gate.clear()
    ids = [await peer.submit("/forward_backward", batch(1, 2)) for _ in range(4)]

    async def the_first_runs() -> bool:
        unfinished = (await told(plane, f"/{run_id}/operations"))["unfinished"]
        return unfinished[0]["started_at"] is not None

    await until(the_first_runs)
    answer = await told(plane, f"/{run_id}/operations", limit="3")
    engine.gate.set()
    assert [one["id"] for one in answer["unfinished"]] == ids[:3]
    assert [one["started_at"] is None for one in answer["unfinished"]] == [False, True, True]
    assert (answer["queued"], answer["operations"]) == (3, [])


async def test_page_by_page(plane: Plane, serve: Serve, engine: double_engine.Trainer) -> None:
    run_id, peer = await trained(plane, serve, engine)
    ids = [await peer.submit("/forward", batch(1, 2)) for _ in range(5)]
    await peer.result(ids[-1])
    seen: list[str] = []
    older: int | None = None
    for _ in range(3):
        page = await told(plane, f"/{run_id}/operations", limit="2", **({} if older is None else {"before": older}))
        seen += [one["id"] for one in page["operations"]]
        older = page["older"]
    assert (seen, older) == (ids[::-1], None)


async def test_a_trainer_that_does_not_answer_hides_nothing_that_is_known(plane: Plane) -> None:
    run_id = (await plane.run())["id"]
    plane.storage.history(run_id).write_text('{"id": "x", "operation": "forward"}\n')
    answer = await told(plane, f"/{run_id}/operations")
    assert answer["queued"] is None
    assert [one["id"] for one in answer["operations"]] == ["x"]


async def test_an_operation_that_was_done_again_after_a_crash_is_told_once(plane: Plane) -> None:
    run_id = (await plane.run())["id"]
    lines = [{"id": "a", "operation": "forward"}, {"id": "b", "finished_at": 1.0}, {"id": "b", "finished_at": 2.0}]
    plane.storage.history(run_id).write_text("".join(json.dumps(line) + "\n" for line in lines))
    answer = await told(plane, f"/{run_id}/operations")
    assert [(one["id"], one.get("finished_at")) for one in answer["operations"]] == [("b", 2.0), ("a", None)]


def test_a_history_is_cut_to_its_newer_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_BYTES", 2000)
    written = history.History(tmp_path / "history.jsonl")
    for number in range(100):
        written.write(Told(str(number), "forward", 1.0, 2.0, 3.0))
    left = [json.loads(line)["id"] for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert left == [str(number) for number in range(100 - len(left), 100)]
    assert 5 < len(left) < 40


async def test_a_disk_that_refuses_the_history_stops_nothing(
    plane: Plane, serve: Serve, engine: double_engine.Trainer, caplog: pytest.LogCaptureFixture
) -> None:
    run_id, peer = await trained(plane, serve, engine)
    plane.storage.history(run_id).mkdir()
    assert (await peer.do("/forward_backward", batch(1, 2)))["loss"] > 0
    assert (await peer.do("/optim_step", {}))["metrics"]["step"] == 1
    assert caplog.text.count("training goes on without it") == 1


# ---------------------------------------------------------------- curves


async def test_without_metrics_the_curves_are_those_of_the_operations(
    plane: Plane, serve: Serve, engine: double_engine.Trainer
) -> None:
    run_id, peer = await trained(plane, serve, engine)
    losses = []
    for _ in range(2):
        losses.append((await peer.do("/forward_backward", batch(1, 2)))["loss"])
        losses.append((await peer.do("/forward_backward", batch(3)))["loss"])
        await peer.do("/optim_step", {})
    await peer.do("/forward_backward", batch(1, 2))
    first = await told(plane, f"/{run_id}/metrics")
    assert (first["source"], first["restart"], first["more"]) == ("operations", True, False)
    assert [row["step"] for row in first["rows"]] == [1, 2]
    assert [row["loss"] for row in first["rows"]] == pytest.approx([sum(losses[:2]), sum(losses[2:])])
    assert all(row["grad_norm"] > 0 and row["time"] > 0 for row in first["rows"])
    await peer.do("/optim_step", {})
    second = await told(plane, f"/{run_id}/metrics", source="operations", offset=first["offset"])
    assert [(row["step"], row["loss"] > 0) for row in second["rows"]] == [(3, True)]  # with the pass before it
    assert not second["restart"]


async def test_metrics_are_read_as_they_grow(plane: Plane) -> None:
    run_id = (await plane.run())["id"]
    path = plane.storage.root / "metrics" / f"{run_id}.jsonl"
    path.parent.mkdir()
    path.write_text('{"step": 1, "loss": 2.5, "reward": 0.5}\n{"step": 2, "lo')
    first = await told(plane, f"/{run_id}/metrics", source="operations", offset="7")
    assert (first["source"], first["restart"]) == ("metrics", True)
    assert first["rows"] == [{"step": 1, "loss": 2.5, "reward": 0.5}]
    with path.open("a") as file:
        file.write('ss": 1.5}\n')
    second = await told(plane, f"/{run_id}/metrics", source="metrics", offset=first["offset"])
    assert (second["rows"], second["restart"]) == ([{"step": 2, "loss": 1.5}], False)
    path.write_text('{"step": 1, "loss": 9.0}\n')
    again = await told(plane, f"/{run_id}/metrics", source="metrics", offset=second["offset"])
    assert (again["rows"], again["restart"]) == ([{"step": 1, "loss": 9.0}], True)


async def test_metrics_may_lie_elsewhere(tmp_path: Path, serve: Serve) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "data").mkdir()
    plane = await started(tmp_path / "data", serve, metrics=elsewhere)
    run_id = (await plane.run())["id"]
    (elsewhere / f"{run_id}.jsonl").write_text('{"step": 1, "loss": 2.5}\n')
    assert (await told(plane, f"/{run_id}/metrics"))["rows"] == [{"step": 1, "loss": 2.5}]


@pytest.mark.parametrize(
    "line",
    ["", "[1]", '"x"', "{", "NaN", "[" * 5000, '{"step": "1"}', '{"step": true}', '{"step": 1.5}', "9" * 9000, "\0"],
)
async def test_lines_that_are_no_rows_are_skipped(plane: Plane, line: str) -> None:
    run_id = (await plane.run())["id"]
    path = plane.storage.root / "metrics" / f"{run_id}.jsonl"
    path.parent.mkdir()
    row = '{"step": 1, "a": NaN, "b": Infinity, "c": 1e999, "d": [1], "e": "<b>", "f": 1234567890123456789012}'
    path.write_text(f"{line}\n{row}\n")
    assert (await told(plane, f"/{run_id}/metrics"))["rows"] == [{"step": 1}]


def test_a_long_file_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {step}, "reward": {step / 7}}}\n' for step in range(20_000)))
    offset, source, steps = 0, None, []
    while True:
        piece = read_curves(path, tmp_path / "none", source, offset)
        assert len(piece.rows) < 10_000
        steps += [row["step"] for row in piece.rows]
        offset, source = piece.offset, piece.source
        if not piece.rows:
            break
    assert steps == list(range(20_000))
    assert [parsed(line)["step"] for line, _ in read_before(path, None, 3)[0]] == [19_999, 19_998, 19_997]


def test_a_line_without_end_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"x" * 2**20)
    lines, offset = read_after(path, 0)
    assert (lines, offset > 0) == ([], True)
    assert read_before(path, None, 10) == ([], 0)


def test_passes_without_steps_are_given_up_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    passes = '{"operation": "forward_backward", "loss": 1.0, "id": "0123456789"}\n' * 10_000
    path.write_text(passes + '{"operation": "optim_step", "policy_version": 1, "finished_at": 5.0}\n')
    offset = 0
    rows: list[dict[str, Any]] = []
    for _ in range(10):
        piece = read_curves(tmp_path / "none", path, "operations", offset)
        offset, rows = piece.offset, rows + piece.rows
    assert [row["step"] for row in rows] == [1]


# ---------------------------------------------------------------- checkpoints and samples


async def test_checkpoints_newest_first(plane: Plane) -> None:
    run_id = (await plane.run())["id"]
    paths = [plane.save(run_id, "weights", "a"), plane.save(run_id, "sampler_weights", "b", ttl_seconds=60)]
    answer = await told(plane, f"/{run_id}/checkpoints")
    assert [one["path"] for one in answer["checkpoints"]] == paths[::-1]
    assert [one["target"] for one in answer["checkpoints"]] == ["sampler", "trainer"]
    assert [one["expires_at"] is None for one in answer["checkpoints"]] == [False, True]
    assert answer["checkpoints"][0]["size_bytes"] == 5


async def sampled(plane: Plane, run_id: str, **fields: Any) -> Any:
    body = {"model": "base", "prompt": "ab", "max_tokens": 3, "temperature": 0.0, **fields}
    return await plane.peer.post(f"/local/v1/runs/{run_id}/sample", body)


async def a_sampler(plane: Plane, serve: Serve, sampler_id: str) -> None:
    sampler = Sampler(plane.storage, api_key=KEY, interval=0.005)
    peer = await serve(sampler.app, cancel_on_disconnect=True)
    await sampler.open(plane.storage.sampler(sampler_id), double_engine.Generator())
    at(plane, sampler_id, peer)


async def test_a_sampler_is_started_where_there_is_none(
    plane: Plane, serve: Serve, engine: double_engine.Trainer
) -> None:
    run_id, peer = await trained(plane, serve, engine)
    await peer.do("/forward_backward", {**batch(5), "loss_fn": "cross_entropy"})
    await peer.do("/optim_step", {"adam_params": {"learning_rate": 1.0}})
    await peer.do("/save_state", {"name": "first"})
    path = f"bt://loops:{run_id}/weights/first"
    starting = await sampled(plane, run_id, model=path)
    again = await sampled(plane, run_id, model=path)
    assert starting.json == again.json == {"state": "starting"}
    (sampler,) = plane.storage.samplers()  # one, however often it is asked for
    assert sampler.run_id == run_id
    await a_sampler(plane, serve, sampler.id)
    for model in (path, "current"):
        answer = await sampled(plane, run_id, model=model)
        assert (answer.json["state"], answer.json["policy_version"]) == ("done", 1)
        assert (answer.json["prompt_tokens"], answer.json["completion_tokens"]) == (2, 3)
        assert isinstance(answer.json["text"], str)
    assert (await sampled(plane, run_id, model="base")).json["policy_version"] == 0


async def test_a_conversation(plane: Plane, serve: Serve) -> None:
    run = await plane.run()
    await a_sampler(plane, serve, run["sampler"]["id"])
    answer = await sampled(plane, run["id"], prompt=[{"role": "user", "content": "abc"}])
    assert answer.json["prompt_tokens"] == 3
    refused = await sampled(plane, run["id"], prompt=[{"role": "system", "content": "abc"}])
    assert (refused.status, "no chat template" in refused.json["message"]) == (422, True)


async def test_any_sampler_serves_the_checkpoints_of_a_run_that_has_ended(plane: Plane, serve: Serve) -> None:
    old, new = (await plane.run())["id"], await plane.run()
    config = json.dumps([0.0] * double_engine.VOCAB).encode()
    path = plane.save(old, "sampler_weights", "kept", {"adapter_model.json": config})
    await ended(plane, old)
    await a_sampler(plane, serve, new["sampler"]["id"])
    assert (await sampled(plane, old, model=path)).json["policy_version"] == 1
    gone = await sampled(plane, old, model="current")
    assert (gone.status, "checkpoints" in gone.json["message"]) == (409, True)


async def test_one_of_its_own_is_started_for_a_run_that_has_ended(plane: Plane) -> None:
    run_id = (await plane.run())["id"]
    await ended(plane, run_id)
    assert (await sampled(plane, run_id)).json == {"state": "starting"}
    assert plane.storage.samplers()[0].run_id is None


async def test_a_sampler_that_does_not_come_up_is_told(plane: Plane) -> None:
    run_id = (await plane.run("trainers"))["id"]
    await sampled(plane, run_id)
    (sampler,) = plane.storage.samplers()
    plane.launcher.launched[sampler.id].state = "failed"
    failed = await sampled(plane, run_id)
    assert (failed.status >= 500, sampler.id in failed.json["message"]) == (True, True)
    assert (await sampled(plane, run_id)).json == {"state": "starting"}  # whoever asks again gets another try


async def test_a_sampler_that_is_gone_is_an_answer_too(plane: Plane) -> None:
    run = await plane.run()
    plane.launcher.launched[run["sampler"]["id"]].state = "ready"  # and nobody listens
    assert (await sampled(plane, run["id"])).status == 503


@pytest.mark.parametrize(
    ("fields", "status", "named"),
    [
        ({"model": "x"}, 422, "model"),
        ({"model": "bt://loops:run7/weights/none"}, 404, "none"),
        ({"model": "bt://loops:../weights/x"}, 422, "model"),
        ({"prompt": 7}, 422, "prompt"),
        ({"prompt": []}, 422, "prompt"),
        ({"prompt": ""}, 422, "prompt"),
        ({"prompt": [7]}, 422, "prompt[0]"),
        ({"prompt": [{"role": "user"}]}, 422, "prompt[0]"),
        ({"prompt": [{"role": "<b>", "content": "x"}]}, 422, "prompt[0].role"),
        ({"prompt": "x" * 300_000}, 422, "prompt"),
        ({"temperature": -1.0}, 422, "temperature"),
        ({"max_tokens": 0}, 422, "max_tokens"),
        ({"seed": -1}, 422, "seed"),
        ({"more": 1}, 422, "more"),
    ],
)
async def test_what_cannot_be_sampled_is_named(
    plane: Plane, serve: Serve, fields: dict[str, Any], status: int, named: str
) -> None:
    run = await plane.run()
    await a_sampler(plane, serve, run["sampler"]["id"])
    answer = await sampled(plane, run["id"], **fields)
    assert (answer.status, named in answer.json["message"]) == (status, True), answer
