"""A merged model computes what base and adapter compute together, loads as any model does, and is never half there."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from loops_sdk.errors import InvalidInputError, LoopsError
from loops_sdk.local.engine import AdapterConfig
from loops_sdk.local.engine.peft_folder import CONFIG_FILE, WEIGHTS_FILE, PeftFolder
from loops_sdk.local.engine.torch_engine import base_files, load_training_engine, merging
from loops_sdk.local.engine.torch_engine.merging import Merged, merge

Adapter = Callable[..., Path]
Into = Callable[..., Merged]

pytestmark = [
    # peft's advice on tied heads, which is followed here
    pytest.mark.filterwarnings("ignore:Model (has|with) `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to:UserWarning"),
]


@pytest.fixture
def adapter(model_folder: Callable[[str], str], tmp_path: Path) -> Adapter:
    """A trained adapter on a random model: neither A nor B is zero."""

    def made(base: str, **options: Any) -> Path:
        engine = load_training_engine(base if "/" in base else model_folder(base), cache_dir=tmp_path)
        engine.init_adapter(AdapterConfig(**{"lora_rank": 4, "seed": 3, **options}))
        generator = torch.Generator().manual_seed(5)
        for tensor in engine._adapter.tensors.values():
            tensor.data = torch.randn(tensor.shape, generator=generator) * 0.2
        engine.save_adapter(tmp_path / "adapter")
        return tmp_path / "adapter"

    return made


@pytest.fixture
def into(tmp_path: Path) -> Into:
    def merged(folder: Path, base: str, **options: Any) -> Merged:
        return merge(PeftFolder.read(folder), base, tmp_path / "merged", cache_dir=tmp_path, **options)

    return merged


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model.eval()(input_ids=torch.arange(3, 43).view(2, 20)).logits
    return result


def agree(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Within what the order of float32 sums may change."""
    return float((left - right).abs().max()) <= 1e-4 * float(right.abs().max())


def together(base: str, folder: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(model, str(folder))


def loaded(folder: Path) -> Any:
    model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values()), report
    return model


# ------------------------------------------------------------------ what it computes


@pytest.mark.parametrize("head", [True, False], ids=["with head", "without head"])
@pytest.mark.parametrize("name", ["llama", "tied", "qwen3", "opt", "gpt2"])
def test_it_computes_what_base_and_adapter_do(
    name: str, head: bool, adapter: Adapter, into: Into, model_folder: Callable[[str], str], tmp_path: Path
) -> None:
    base = model_folder(name)
    folder = adapter(name, lora_alpha=6, train_unembed=head)
    done = into(folder, base)
    expected = logits(together(base, folder))
    model = loaded(done.folder)
    assert agree(logits(model), expected)
    assert not agree(logits(AutoModelForCausalLM.from_pretrained(base)), expected)
    assert done.untied == (head and name not in ("llama",))
    assert done.layers == len(PeftFolder.read(folder).pairs)
    tokenizer = AutoTokenizer.from_pretrained(done.folder)
    assert tokenizer.encode("the cat") == AutoTokenizer.from_pretrained(base).encode("the cat")
    assert (done.folder / "generation_config.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_it_is_what_peft_merges(adapter: Adapter, into: Into, model_folder: Callable[[str], str]) -> None:
    folder = adapter("llama")
    expected = together(model_folder("llama"), folder).merge_and_unload().state_dict()
    merged = load_file(into(folder, model_folder("llama")).files[0])
    assert merged.keys() == expected.keys()
    for name, tensor in merged.items():
        assert torch.allclose(tensor, expected[name], atol=1e-6), name


def test_the_scale_of_a_rank_stabilized_adapter(
    adapter: Adapter, into: Into, model_folder: Callable[[str], str]
) -> None:
    folder = adapter("llama")
    change(folder / CONFIG_FILE, use_rslora=True)
    expected = logits(together(model_folder("llama"), folder))
    assert agree(logits(loaded(into(folder, model_folder("llama")).folder)), expected)


def test_the_base_that_ships(adapter: Adapter, into: Into) -> None:
    """Its weights are bfloat16, and stay so unless another type is asked for."""
    folder = adapter("loops/tiny")
    done = into(folder, "loops/tiny", dtype="float32")
    base = str(PeftFolder.read(folder).base_model)
    assert agree(logits(loaded(done.folder)), logits(together(base, folder)))
    assert json.loads((done.folder / "config.json").read_text())["dtype"] == "float32"
    shutil.rmtree(done.folder)
    kept = load_file(into(folder, "loops/tiny").files[0])
    assert {tensor.dtype for tensor in kept.values()} == {torch.bfloat16}
    assert AutoTokenizer.from_pretrained(done.folder).chat_template


def test_names_without_their_first_part(
    adapter: Adapter, into: Into, model_folder: Callable[[str], str], tmp_path: Path
) -> None:
    """As in the files of the first GPT-2 on the hub."""
    base = tmp_path / "base"
    shutil.copytree(model_folder("gpt2"), base)
    tensors = load_file(base / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file(bare, base / "model.safetensors", {"format": "pt"})
    folder = adapter(str(base))
    merged = into(folder, str(base)).folder
    assert agree(logits(loaded(merged)), logits(together(str(base), folder)))


def test_files_of_a_size_with_an_index(adapter: Adapter, into: Into, model_folder: Callable[[str], str]) -> None:
    base, folder = model_folder("tied"), adapter("tied")
    told: list[tuple[int, int]] = []
    done = into(folder, base, max_shard_size="40KB", on_progress=lambda *both: told.append(both))
    assert len(done.files) > 2
    assert all(path.stat().st_size < 45_000 for path in done.files)
    assert (done.folder / "model.safetensors.index.json").is_file()
    assert told[-1][0] == told[-1][1] == sum(sum(t.nbytes for t in load_file(path).values()) for path in done.files)
    assert agree(logits(loaded(done.folder)), logits(together(base, folder)))
    once_more = merge(PeftFolder.read(folder), str(done.folder), done.folder.parent / "twice", cache_dir=folder)
    assert len(once_more.files) == 1  # a base model in several files


def test_a_trainers_state_has_the_adapter_in_it(
    into: Into, training_engine: Callable[..., Any], model_folder: Callable[[str], str], tmp_path: Path
) -> None:
    training_engine("llama").save_state(tmp_path / "state")
    done = into(tmp_path / "state", model_folder("llama"))
    assert sorted(path.name for path in done.folder.iterdir() if "optim" in path.name or "state" in path.name) == []
    assert torch.equal(logits(loaded(done.folder)), logits(loaded(Path(model_folder("llama")))))  # B is zero


def test_a_base_model_on_the_hub_is_fetched_without_what_is_there_twice(
    adapter: Adapter, into: Into, model_folder: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = adapter("llama"), []

    def fetch(hub_id: str, *, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked.append((hub_id, "*.safetensors" in allow_patterns, "consolidated*" in ignore_patterns))
        return model_folder("llama")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_arguments, **_options: None)
    monkeypatch.setattr(base_files, "snapshot_download", fetch)
    assert agree(logits(loaded(into(folder, "acme/llama").folder)), logits(together(model_folder("llama"), folder)))
    assert asked == [("acme/llama", True, True)]


def test_a_base_model_that_cannot_be_fetched(
    adapter: Adapter, into: Into, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object, **_options: object) -> str:
        raise OSError("the line was cut")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_arguments, **_options: None)
    monkeypatch.setattr(base_files, "snapshot_download", broken)
    with pytest.raises(LoopsError, match=r"base_model: 'acme/llama' could not be fetched .*the line was cut"):
        into(adapter("llama"), "acme/llama")
    assert not (tmp_path / "merged").exists()


# ------------------------------------------------------------------ what is refused


def change(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def change_tensors(folder: Path, with_them: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS_FILE)
    with_them(tensors)
    save_file(tensors, folder / WEIGHTS_FILE)


def rename(tensors: dict[str, torch.Tensor], old: str, new: str) -> None:
    for name in [name for name in tensors if old in name]:
        tensors[name.replace(old, new)] = tensors.pop(name)


FIRST = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a setting that plain LoRA has not": (
        lambda folder: change(folder / CONFIG_FILE, use_dora=True, bias="all"),
        r'no plain LoRA, it has bias="all", use_dora=true: merge it with PeftModel\.merge_and_unload',
    ),
    "a start that changes the base": (
        lambda folder: change(folder / CONFIG_FILE, init_lora_weights="pissa_niter_4"),
        r'init_lora_weights="pissa_niter_4"',
    ),
    "another method": (lambda folder: change(folder / CONFIG_FILE, peft_type="IA3"), "describes no LoRA adapter"),
    "no rank": (lambda folder: change(folder / CONFIG_FILE, r="many"), "describes no LoRA adapter"),
    "a rank of nothing": (lambda folder: change(folder / CONFIG_FILE, r=0), "describes no LoRA adapter"),
    "no JSON": (lambda folder: (folder / CONFIG_FILE).write_text("{"), "describes no LoRA adapter"),
    "another rank": (
        lambda folder: change(folder / CONFIG_FILE, r=8),
        r"lora_A\.weight has shape \[4, \d+\], which is not of the rank 8",
    ),
    "no tensors": (lambda folder: change_tensors(folder, lambda tensors: tensors.clear()), "holds no tensor"),
    "half a pair": (
        lambda folder: change_tensors(folder, lambda tensors: tensors.pop(FIRST)),
        r"layers\.0\.mlp\.down_proj has lora_B alone",
    ),
    "a tensor of something else": (
        lambda folder: change_tensors(folder, lambda tensors: rename(tensors, "down_proj.lora_A", "down_proj.hada_w1")),
        r"down_proj\.hada_w1\.weight belongs to no LoRA pair",
    ),
    "a cut file": (
        lambda folder: (folder / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:-1]),
        "cannot be read",
    ),
    "no file": (lambda folder: (folder / WEIGHTS_FILE).unlink(), "cannot be read"),
    "a layer that the base has not": (
        lambda folder: change_tensors(folder, lambda tensors: rename(tensors, "down_proj", "sideways_proj")),
        r"has no layer model\.layers\.0\.mlp\.sideways_proj, which the adapter changes",
    ),
    "training that diverged": (
        lambda folder: change_tensors(folder, lambda tensors: tensors[FIRST].fill_(torch.nan)),
        r"down_proj\.weight has values that are not finite.*: the adapter's own are not, its training has diverged",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_an_adapter_that_is_not_right_is_refused_and_nothing_is_left(
    name: str, adapter: Adapter, into: Into, model_folder: Callable[[str], str], tmp_path: Path
) -> None:
    folder = adapter("llama")
    damage, said = DAMAGES[name]
    damage(folder)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(LoopsError, match=said):
        into(folder, model_folder("llama"))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("holds", "said"),
    [
        ("", "is what `loops checkpoints download` makes"),
        ("config.json", "holds a whole model, not an adapter"),
        ("optimizer.pt", "state of a trainer in a form that no adapter can be taken from; save_weights_for_sampler"),
    ],
)
def test_a_folder_without_an_adapter_says_what_it_holds(holds: str, said: str, tmp_path: Path) -> None:
    (tmp_path / (holds or "notes.txt")).write_text("{}")
    with pytest.raises(InvalidInputError, match=said):
        PeftFolder.read(tmp_path)
    with pytest.raises(InvalidInputError, match="there is no folder"):
        PeftFolder.read(tmp_path / "none")


def test_an_adapter_of_another_base_model(
    adapter: Adapter, into: Into, model_folder: Callable[[str], str], tmp_path: Path
) -> None:
    folder = adapter("llama")
    with pytest.raises(
        InvalidInputError, match=r"a weight of shape \[\d+, 192\], the adapter is for one of \[\d+, 32\]"
    ):
        into(folder, "loops/tiny")
    with pytest.raises(InvalidInputError, match="there is no folder"):
        into(folder, str(tmp_path / "no" / "model"))
    with pytest.raises(InvalidInputError, match="has no layer"):
        into(folder, model_folder("opt"))


def test_a_base_that_cannot_be_added_to(
    adapter: Adapter, into: Into, model_folder: Callable[[str], str], tmp_path: Path
) -> None:
    folder, base = adapter("llama"), tmp_path / "base"
    shutil.copytree(model_folder("llama"), base)
    change(base / "config.json", quantization_config={"quant_method": "fp8"})
    with pytest.raises(InvalidInputError, match="is quantized"):
        into(folder, str(base))
    shutil.copy(Path(model_folder("llama")) / "config.json", base)
    tensors = load_file(base / "model.safetensors")
    save_file({name: tensor.to(torch.float8_e4m3fn) for name, tensor in tensors.items()}, base / "model.safetensors")
    with pytest.raises(InvalidInputError, match="is of the type F8_E4M3, which an adapter cannot be added to"):
        into(folder, str(base))
    (base / "model.safetensors").write_bytes(b"none")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        into(folder, str(base))
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(InvalidInputError, match="has no weights in safetensors files"):
        into(folder, str(base))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "int8"}, "^dtype: expected one of float32, "),
        ({"max_shard_size": "big"}, "^max_shard_size: expected"),
    ],
)
def test_a_wrong_option_is_named(
    options: dict[str, str], said: str, adapter: Adapter, into: Into, model_folder: Callable[[str], str]
) -> None:
    with pytest.raises(InvalidInputError, match=said):
        into(adapter("llama"), model_folder("llama"), **options)


def test_a_type_that_is_too_narrow(adapter: Adapter, into: Into, model_folder: Callable[[str], str]) -> None:
    folder = adapter("llama")
    change_tensors(folder, lambda tensors: tensors[FIRST].fill_(1e6))
    with pytest.raises(LoopsError, match=r"not finite after merging: F16 is too narrow for them"):
        into(folder, model_folder("llama"), dtype="float16")


# ------------------------------------------------------------------ the folder it goes to


def test_what_is_there_already_stays(
    adapter: Adapter, into: Into, model_folder: Callable[[str], str], tmp_path: Path
) -> None:
    folder, out = adapter("llama"), tmp_path / "merged"
    out.mkdir()
    assert into(folder, model_folder("llama")).folder == out  # an empty one will do
    with pytest.raises(InvalidInputError, match="is not empty"):
        into(folder, model_folder("llama"))
    assert loaded(out)
    shutil.rmtree(out)
    out.write_text("mine")
    with pytest.raises(InvalidInputError, match="is no folder"):
        into(folder, model_folder("llama"))
    assert out.read_text() == "mine"


def test_a_full_disk_leaves_nothing(
    adapter: Adapter, into: Into, model_folder: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = adapter("llama")
    before = sorted(tmp_path.iterdir())

    def full(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"some of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(merging, "save_file", full)
    with pytest.raises(LoopsError, match=r"merged cannot be written .*No space left"):
        into(folder, model_folder("llama"))
    assert sorted(tmp_path.iterdir()) == before
    monkeypatch.setattr(merging.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 3, 7))  # type: ignore[attr-defined]
    with pytest.raises(LoopsError, match=r"the result takes [\d,]+ bytes, 7 are free"):
        into(folder, model_folder("llama"))
    assert sorted(tmp_path.iterdir()) == before


def test_interrupted_it_leaves_nothing(
    adapter: Adapter, into: Into, model_folder: Callable[[str], str], tmp_path: Path
) -> None:
    folder = adapter("llama")
    before = sorted(tmp_path.iterdir())

    def interrupt(written: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        into(folder, model_folder("llama"), on_progress=interrupt)
    assert sorted(tmp_path.iterdir()) == before
