"""`loops checkpoints push-hf`: which files go where, that a dry run asks nobody, and an upload to a hub on loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from aiohttp import web
from huggingface_hub import ModelCard

from loops_sdk.cli.model_card import shipment
from loops_sdk.errors import InvalidInputError

from .adapter_files import adapter_at, adapter_files
from .conftest import ADDRESS, Loops, Plane, Start, checkpoint_record
from .fake_hub import TOKEN, Hub, Repo

# the hub's client, to its own HTTP client
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<:DeprecationWarning")

QWEN = "Qwen/Qwen3-8B"
ADAPTER = ["README.md", "adapter_config.json", "adapter_model.safetensors"]


@pytest.fixture
async def hub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    made = Hub()
    runner = web.AppRunner(made.application(), shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", made.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield made
    huggingface_hub.close_session()
    await runner.cleanup()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An adapter as `download` makes it of a training state."""
    made = adapter_at(tmp_path / "step-1", base_model_name_or_path=QWEN)
    for name in ("optimizer.safetensors", "training_state.json", "notes.txt", ".loops-checkpoint.json"):
        (made / name).write_text("{}")
    (made / ".cache").mkdir()
    (made / ".cache" / "README.md").write_text("hidden")
    (made / "LICENSE").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text("of somebody else")
    return made


# ------------------------------------------------------------------ a dry run


async def test_a_dry_run_shows_what_would_be_sent_and_asks_nobody(
    loops: Loops, plane: Plane, hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    done = await loops("checkpoints", "push-hf", str(folder), "me/island", "--dry-run")
    assert (done.code, done.err) == (0, "")
    first, *rest = done.table
    assert first == [f"dry run, nothing is sent: to {hub.url}/me/island (private)"]
    assert [row[0] for row in rest if row] == [
        "FILE",
        *ADAPTER,
        "left out: notes.txt, optimizer.safetensors, training_state.json (--include PATTERN sends them)",
    ]
    assert (hub.asked, plane.asked) == ([], [])


async def test_a_dry_run_as_json(loops: Loops, hub: Hub, folder: Path) -> None:
    options = ["--public", "--revision", "v2", "--message", "Better", "--include", "optim*", "--dry-run", "--json"]
    done = await loops("checkpoints", "push-hf", str(folder), "me/island", *options)
    said = done.json
    assert list(said.pop("files")) == [
        "README.md",
        "adapter_config.json",
        *("adapter_model.safetensors", "optimizer.safetensors"),
    ]
    assert said == {
        "repo_id": "me/island",
        "private": False,
        "branch": "v2",
        "message": "Better",
        "left_out": ["notes.txt", "training_state.json"],
        "url": None,
    }
    assert hub.asked == []


async def test_of_a_checkpoint_the_service_is_asked_and_nobody_else(loops: Loops, plane: Plane, hub: Hub) -> None:
    plane.files = adapter_files(base_model_name_or_path="/srv/weights")
    plane.checkpoints = [checkpoint_record(base_model=QWEN)]
    done = await loops("checkpoints", "push-hf", ADDRESS, "me/island", "--dry-run", "--json")
    assert (list(done.json["files"]), done.json["message"]) == (ADAPTER, "Upload step-1")
    assert hub.asked == []


# ------------------------------------------------------------------ what is sent


def read_card(shipped: Any) -> ModelCard:
    return ModelCard(shipped.files["README.md"].decode())


def test_the_card_of_an_adapter(folder: Path) -> None:
    card = read_card(shipment(folder, "me/island", None, []))
    assert card.data.to_dict() == {
        "base_model": QWEN,
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "loops-sdk"],
    }
    assert f"base = AutoModelForCausalLM.from_pretrained('{QWEN}')" in card.text
    assert "model = PeftModel.from_pretrained(base, 'me/island')" in card.text
    assert "| 4 | 8 | q_proj |" in card.text


@pytest.mark.parametrize("base", ["/srv/weights", "loops/tiny", None])
def test_a_base_model_of_this_machine_goes_into_no_card(base: str | None, tmp_path: Path) -> None:
    folder = adapter_at(tmp_path / "a", base_model_name_or_path=base)
    shipped = shipment(folder, "me/island", None, [])
    assert "base_model" not in read_card(shipped).data.to_dict()
    config = json.loads(bytes(shipped.files["adapter_config.json"]))  # type: ignore[arg-type]
    assert (config["base_model_name_or_path"], config["r"]) == (None, 4)
    assert shipped.remarks == [f"base model {base} is not on the hub: --base-model ID names another"]
    named = shipment(folder, "me/island", QWEN, [])
    assert json.loads(bytes(named.files["adapter_config.json"]))["base_model_name_or_path"] == QWEN  # type: ignore[arg-type]
    assert (read_card(named).data.base_model, named.remarks) == (QWEN, [])


def test_a_card_that_is_there_is_sent_as_it_is(folder: Path) -> None:
    (folder / "README.md").write_text("mine")
    shipped = shipment(folder, "me/island", None, [])
    assert shipped.files["README.md"] == folder / "README.md"
    assert shipped.sizes()["README.md"] == 4
    assert shipped.files["adapter_config.json"] == folder / "adapter_config.json"


def test_a_merged_model(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "optimizer.pt"):
        (tmp_path / name).write_text("{}")
    shipped = shipment(tmp_path, "me/island", QWEN, [])
    assert list(shipped.files) == [
        "README.md",
        *("chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"),
    ]
    data = read_card(shipped).data.to_dict()
    assert (data["library_name"], data["base_model"], data["base_model_relation"]) == ("transformers", QWEN, "finetune")
    assert "base_model" not in read_card(shipment(tmp_path, "me/island", None, [])).data.to_dict()


def test_a_folder_of_neither_and_a_pattern_of_nothing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"has no adapter_config\.json"):
        shipment(tmp_path, "me/island", None, [])
    with pytest.raises(InvalidInputError, match=r"include: no file in .* is called moments\*"):
        shipment(folder, "me/island", None, ["moments*"])


# ------------------------------------------------------------------ an upload


async def test_an_upload_is_one_commit(loops: Loops, hub: Hub, folder: Path) -> None:
    done = await loops("checkpoints", "push-hf", str(folder), "me/island")
    assert (done.code, done.err) == (0, ""), done.err
    assert done.out == f"3 files, 7.1 kB, are in {hub.url}/me/island\n"
    repo = hub.repos["me/island"]
    assert (repo.private, repo.messages) == (True, ["Upload step-1"])
    assert sorted(repo.branches["main"]) == ADAPTER
    for name in ADAPTER[1:]:
        assert repo.branches["main"][name] == read(folder / name)
    again = await loops("checkpoints", "push-hf", str(folder), "me/island", "--message", "Again", "--json")
    assert (again.code, again.json["url"]) == (0, f"{hub.url}/me/island")
    assert repo.messages == ["Upload step-1", "Again"]


def read(path: Path) -> bytes:
    return path.read_bytes()


async def test_a_branch_is_made(loops: Loops, hub: Hub, folder: Path) -> None:
    options = ["--revision", "v2", "--public", "--include", "optimizer.*"]
    for _ in range(2):
        assert (await loops("checkpoints", "push-hf", str(folder), "island", *options)).code == 0
    repo = hub.repos["me/island"]
    assert not repo.private
    assert (sorted(repo.branches["v2"]), repo.branches["main"]) == ([*ADAPTER, "optimizer.safetensors"], {})


async def test_what_is_private_is_not_sent_to_a_public_repository(loops: Loops, hub: Hub, folder: Path) -> None:
    hub.repos["me/island"] = Repo(private=False)
    done = await loops("checkpoints", "push-hf", str(folder), "me/island")
    assert (done.code, done.out) == (1, "")
    assert done.err == "Error: me/island is public on the hub, nothing was sent: --public sends it there\n"
    assert hub.repos["me/island"].messages == []
    assert (await loops("checkpoints", "push-hf", str(folder), "me/island", "--public")).code == 0


async def test_a_private_repository_stays_private(loops: Loops, hub: Hub, folder: Path) -> None:
    hub.repos["me/island"] = Repo(private=True)
    done = await loops("checkpoints", "push-hf", str(folder), "me/island", "--public")
    assert (done.code, hub.repos["me/island"].private) == (0, True)
    assert "me/island is private on the hub and stays so" in done.err


async def test_a_process_of_its_own_finds_the_hub_in_the_environment(start: Start, hub: Hub, folder: Path) -> None:
    env = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
    process = await start("checkpoints", "push-hf", str(folder), "me/island", env=env)
    out, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, "")
    assert out.decode().endswith(f"are in {hub.url}/me/island\n")
    assert sorted(hub.repos["me/island"].branches["main"]) == ADAPTER


# ------------------------------------------------------------------ what goes wrong


async def test_without_a_token_it_says_where_to_get_one(
    loops: Loops, hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    done = await loops("checkpoints", "push-hf", str(folder), "me/island")
    assert (done.code, hub.asked) == (1, [])
    assert done.err.startswith("Error: there is no Hugging Face token: run `hf auth login`, or set HF_TOKEN")


FAILURES = {
    "a token that is not known": ("/create", 401, "run `hf auth login`, or set HF_TOKEN"),
    "a token that may not write": ("/create", 403, "the token may not write to me/island"),
    "a refusal in the middle": ("/commit/main", 400, "status 400 as the test wants"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_is_one_line(loops: Loops, hub: Hub, folder: Path, name: str) -> None:
    end, status, said = FAILURES[name]
    hub.refuse[end] = status
    done = await loops("checkpoints", "push-hf", str(folder), "me/island")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: the upload to me/island failed: ")
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert TOKEN not in done.err


async def test_nobody_answers(
    loops: Loops, hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{unused_tcp_port}")
    done = await loops("checkpoints", "push-hf", str(folder), "me/island")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "the upload to me/island failed: " in done.err


@pytest.mark.parametrize("repo_id", ["", "a/b/c", "me/is land", "me/a--b", "me/..", ".x", "me/x.git", "https://x/y"])
async def test_a_wrong_name_asks_nobody(loops: Loops, plane: Plane, hub: Hub, folder: Path, repo_id: str) -> None:
    done = await loops("checkpoints", "push-hf", ADDRESS, repo_id)
    assert (done.code, hub.asked, plane.asked) == (2, [], [])
    assert "expected NAME/REPO" in " ".join(done.err.split())
