"""`loops checkpoints vllm`: a script that a shell takes, with the flags that the adapter needs."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .adapter_files import adapter_at, adapter_files, names
from .conftest import ADDRESS, Done, Loops, Plane, checkpoint_record

QWEN = "Qwen/Qwen3-8B"


def commands(done: Done) -> list[list[str]]:
    """The words of each command, as a shell takes them apart."""
    assert (done.code, done.err) == (0, "")
    lines = done.out.replace("\\\n", "").splitlines()
    return [shlex.split(line) for line in lines if line and not line.startswith("#")]


def said_by_sh(script: str, folder: Path) -> list[str]:
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, cwd=folder, check=True)
    return done.stdout.splitlines()


def comments(done: Done) -> str:
    return " ".join(line.removeprefix("# ") for line in done.out.splitlines() if line.startswith("#"))


async def test_an_adapter_beside_its_base_model(loops: Loops, plane: Plane, tmp_path: Path) -> None:
    folder = adapter_at(tmp_path / "adapter", r=9, base_model_name_or_path=QWEN)
    serve, ask = commands(await loops("checkpoints", "vllm", str(folder), "--name", "help-desk", "--port", "8123"))
    lora = ["--enable-lora", "--max-lora-rank", "16", "--lora-modules", f"help-desk={folder}"]
    assert serve == ["vllm", "serve", QWEN, "--port", "8123", *lora]
    assert ask[:2] == ["curl", "http://localhost:8123/v1/completions"]
    assert json.loads(ask[-1]) == {"model": "help-desk", "prompt": "Hello", "max_tokens": 32}
    assert plane.asked == []


@pytest.mark.parametrize(
    ("rank", "flag"), [(1, 8), (8, 8), (9, 16), (32, 32), (33, 64), (65, 128), (129, 256), (257, 320), (321, 512)]
)
async def test_the_smallest_rank_that_vllm_takes(loops: Loops, tmp_path: Path, rank: int, flag: int) -> None:
    folder = adapter_at(tmp_path / "adapter", r=rank, base_model_name_or_path=QWEN)
    serve, _ = commands(await loops("checkpoints", "vllm", str(folder)))
    assert serve[serve.index("--max-lora-rank") + 1] == str(flag)


@pytest.mark.parametrize("name", ["a b", "it's", "$(touch x)", 'ad"ap;ter', "-x"])
async def test_a_path_is_quoted(loops: Loops, tmp_path: Path, name: str) -> None:
    folder = adapter_at(tmp_path / name, base_model_name_or_path=QWEN)
    done = await loops("checkpoints", "vllm", str(folder))
    assert commands(done)[0][-1] == f"adapter={folder}"
    echo = done.out.replace("vllm serve", "printf '%s\\n'", 1).partition("\n\n")[0]
    assert said_by_sh(echo, tmp_path)[-1] == f"adapter={folder}"
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["lr=3", "a,b"])
async def test_a_path_that_the_short_form_would_take_apart(loops: Loops, tmp_path: Path, name: str) -> None:
    folder = adapter_at(tmp_path / name, base_model_name_or_path=QWEN)
    serve, _ = commands(await loops("checkpoints", "vllm", str(folder)))
    assert json.loads(serve[-1]) == {"name": "adapter", "path": str(folder), "base_model_name": QWEN}


@pytest.mark.parametrize("checkpoint", ["id-step-1", ADDRESS])
async def test_of_a_checkpoint_only_the_configuration_is_read(loops: Loops, plane: Plane, checkpoint: str) -> None:
    plane.files = {"weights.bin": bytes(1000), **adapter_files(base_model_name_or_path=QWEN)}
    plane.checkpoints = [checkpoint_record(base_model=QWEN)]
    done = await loops("checkpoints", "vllm", checkpoint)
    name = "step-1" if checkpoint == ADDRESS else "id-step-1"
    download, serve, ask = commands(done)
    assert download == ["loops", "checkpoints", "download", checkpoint, f"./{name}"]
    assert (serve[2], serve[-1]) == (QWEN, f"{name}=./{name}")
    assert json.loads(ask[-1])["model"] == name
    stored = [request.path for request in plane.asked if request.path.startswith("/store/")]
    assert stored == ["/store/adapter_config.json"]


TAKES_NOT: list[tuple[dict[str, Any], str]] = [
    ({"target_modules": ["lm_head", "q_proj"]}, "changes lm_head, which vLLM takes for some architectures only"),
    ({"target_modules": ["model.embed_tokens", "lm_head"]}, "changes lm_head, embed_tokens, which"),
    ({"target_modules": r".*\.(q_proj|embed_tokens)"}, "changes embed_tokens, which"),
    ({"r": 600}, "has the rank 600, vLLM takes 512 at most"),
]


@pytest.mark.parametrize(("config", "why"), TAKES_NOT)
async def test_what_vllm_does_not_take_is_merged_first(
    loops: Loops, tmp_path: Path, config: dict[str, Any], why: str
) -> None:
    folder = adapter_at(tmp_path / "adapter", base_model_name_or_path=QWEN, **config)
    done = await loops("checkpoints", "vllm", str(folder), "--base-model", "other/model")
    merge, serve, _ = commands(done)
    assert merge == ["loops", "checkpoints", "merge", str(folder), "adapter-merged", "--base-model", "other/model"]
    assert serve == ["vllm", "serve", "./adapter-merged", "--served-model-name", "adapter", "--port", "8000"]
    assert why in comments(done)


async def test_a_name_that_only_looks_like_the_head(loops: Loops, tmp_path: Path) -> None:
    folder = adapter_at(tmp_path / "adapter", base_model_name_or_path=QWEN, target_modules=["my_lm_head_2"])
    assert "--enable-lora" in commands(await loops("checkpoints", "vllm", str(folder)))[0]


async def test_what_can_be_served_neither_way(loops: Loops, tmp_path: Path) -> None:
    done = await loops("checkpoints", "vllm", str(adapter_at(tmp_path / "adapter", use_dora=True)))
    assert (done.code, done.out) == (1, "")
    assert "vLLM serves plain LoRA" in done.err
    assert "has use_dora=true: merge it with PeftModel.merge_and_unload" in done.err


@pytest.mark.parametrize("template", ["chat_template.jinja", "tokenizer_config.json", None])
async def test_a_whole_model(loops: Loops, tmp_path: Path, template: str | None) -> None:
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    if template is not None:
        (folder / template).write_text('{"chat_template": "x"}')
    serve, ask = commands(await loops("checkpoints", "vllm", str(folder)))
    assert serve == ["vllm", "serve", str(folder), "--served-model-name", "merged", "--port", "8000"]
    assert ask[1].endswith("/v1/completions" if template is None else "/v1/chat/completions")
    assert ("messages" in json.loads(ask[-1])) is (template is not None)


async def test_a_base_model_of_another_machine_is_told(loops: Loops, tmp_path: Path) -> None:
    folder = adapter_at(tmp_path / "adapter", base_model_name_or_path="/srv/weights")
    done = await loops("checkpoints", "vllm", str(folder))
    assert "/srv/weights is the base model where the adapter was trained, and no folder here" in comments(done)
    done = await loops("checkpoints", "vllm", str(folder), "--base-model", QWEN)
    assert (commands(done)[0][2], "no folder here" in comments(done)) == (QWEN, False)


@pytest.mark.parametrize("options", [["--name", "a=b"], ["--name", "a b"], ["--port", "0"], ["--port", "70000"]])
async def test_a_wrong_option(loops: Loops, tmp_path: Path, options: list[str]) -> None:
    done = await loops("checkpoints", "vllm", str(adapter_at(tmp_path / "adapter")), *options)
    assert (done.code, done.out) == (2, "")


async def test_a_folder_of_neither(loops: Loops, tmp_path: Path) -> None:
    done = await loops("checkpoints", "vllm", str(tmp_path))
    assert (done.code, done.out) == (1, "")
    assert "has no adapter_config.json" in done.err
