"""A LoRA adapter merged into its base model: ``W + scaling B A`` for every layer that it changes, tensor by tensor from
one folder into another, so that memory holds one file of the result and no model is built.

It decides what the result consists of and that it is there as a whole or not at all.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from huggingface_hub import StateDictSplit, split_state_dict_into_shards_factory
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from loops_sdk.errors import InvalidInputError, LoopsError
from loops_sdk.local.engine.peft_folder import WEIGHTS_FILE, PeftFolder
from loops_sdk.local.engine.torch_engine.base_files import INDEX_FILE, BaseFiles
from loops_sdk.local.engine.torch_engine.files import write_json
from loops_sdk.local.engine.torch_engine.merge_plan import DTYPES, Plan, Result, plan

__all__ = ["Merged", "merge"]

#: Hears of the bytes that are written, and of those there will be.
Progress = Callable[[int, int], None]


@attrs.frozen
class Merged:
    """What a merge has made.

    Attributes:
        folder: where it is.
        layers: how many layers the adapter has changed.
        files: the files of the weights.
        untied: whether the head, which shared its weights with the embedding, has got its own.
    """

    folder: Path
    layers: int
    files: list[Path]
    untied: bool


def merge(
    adapter: PeftFolder,
    base_model: str,
    out: Path,
    *,
    cache_dir: Path,
    dtype: str | None = None,
    max_shard_size: str = "5GB",
    on_progress: Progress | None = None,
) -> Merged:
    """Write the base model with the adapter merged into it, with its configuration and tokenizer, as a folder that
    ``AutoModelForCausalLM.from_pretrained`` and ``AutoTokenizer.from_pretrained`` load.

    Args:
        adapter: what to merge.
        base_model: into what: ``"loops/tiny"``, a folder, a ``.gguf`` file or a hub id.
        out: a folder that is new or empty. It is there as a whole in the end, or as it was.
        cache_dir: where converted GGUF files are kept.
        dtype: of the result: a key of `DTYPES`; default: as the base model has it.
        max_shard_size: most bytes of one file of weights, as ``"5GB"``. A tensor that is larger has a file of its own.
        on_progress: called with the bytes that are written and the bytes there will be.

    Raises:
        InvalidInputError: an argument is wrong, the adapter is no plain LoRA, or it does not fit the base model; names
            the layer. Nothing was written.
        ConnectionFailedError: a hub id that is not cached while the hub cannot be reached.
        LoopsError: the disk does not take it, or a merged layer is not finite.
    """
    _require_plain(adapter)
    _require_free(out)
    base = BaseFiles.find(base_model, cache_dir)
    planned = plan(adapter, base, dtype)
    split = _split(planned, max_shard_size)
    with _whole_or_not(out, planned.size_bytes) as scratch:
        _Writer(adapter, base, planned, on_progress).write(split, scratch)
        for path in base.beside():
            shutil.copyfile(path, scratch / path.name)
        write_json(_config(base.config, dtype, untied=planned.untied), scratch / "config.json")
    return Merged(out, len(adapter.pairs), [out / name for name in split.filename_to_tensors], planned.untied)


def _require_plain(adapter: PeftFolder) -> None:
    if adapter.peculiarities:
        raise InvalidInputError(
            f"adapter: {adapter.path} is no plain LoRA, it has {', '.join(adapter.peculiarities)}: "
            f"merge it with PeftModel.merge_and_unload of the library peft"
        )


def _require_free(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise InvalidInputError(f"out: {out} is no folder; give a new or an empty one")
    if out.is_dir() and any(out.iterdir()):
        raise InvalidInputError(f"out: {out} is not empty; give a new or an empty folder")


def _split(planned: Plan, max_shard_size: str) -> StateDictSplit:
    """Which tensor goes into which file."""
    try:
        return split_state_dict_into_shards_factory(
            dict(planned.results),
            get_storage_size=lambda one: one.stored.size_bytes,
            filename_pattern="model{suffix}.safetensors",
            max_shard_size=max_shard_size,
        )
    except ValueError:
        raise InvalidInputError(f"max_shard_size: expected a size like '5GB', got {max_shard_size!r}") from None


@contextmanager
def _whole_or_not(out: Path, size_bytes: int) -> Iterator[Path]:
    """A folder beside `out` that takes its place in the end, or vanishes."""
    scratch = out.absolute().with_name(f".{out.absolute().name}-{secrets.token_hex(4)}")
    try:
        scratch.mkdir(parents=True)
        if (free := shutil.disk_usage(scratch).free) < size_bytes:
            raise LoopsError(f"out: the result takes {size_bytes:,} bytes, {free:,} are free in {scratch.parent}")
        yield scratch
        if out.exists():
            out.rmdir()
        scratch.rename(out.absolute())
    except (OSError, SafetensorError) as error:
        raise LoopsError(f"out: {out} cannot be written ({error})") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@attrs.define
class _Writer:
    """Writes the weights, one file after another."""

    adapter: PeftFolder
    base: BaseFiles
    plan: Plan
    on_progress: Progress | None
    written: int = 0

    def write(self, split: StateDictSplit, folder: Path) -> None:
        """All of them, with an index where there are several files."""
        for file, names in split.filename_to_tensors.items():
            save_file({name: self._tensor(name) for name in names}, folder / file, {"format": "pt"})
        if split.is_sharded:
            write_json({"metadata": split.metadata, "weight_map": split.tensor_to_filename}, folder / INDEX_FILE)

    def _tensor(self, name: str) -> Tensor:
        result = self.plan.results[name]
        tensor = self.base.read(result.source)
        if result.pair is not None:
            tensor = tensor.float() + self._change(result)
        if result.stored.is_float:
            tensor = tensor.to(next(dtype for dtype, text in DTYPES.values() if text == result.stored.dtype))
        if result.pair is not None and not bool(tensor.isfinite().all()):
            raise LoopsError(f"{name} has values that are not finite after merging{self._reason(result)}")
        self._tell(result.stored.size_bytes)
        return tensor.contiguous()

    def _change(self, result: Result) -> Tensor:
        """What the adapter adds to a weight, in float32."""
        assert result.pair is not None
        with safe_open(self.adapter.path / WEIGHTS_FILE, framework="pt") as file:
            a, b = file.get_tensor(result.pair.a).float(), file.get_tensor(result.pair.b).float()
        change: Tensor = (b @ a).mul_(self.adapter.scaling)
        return change.t() if result.transposed else change

    def _reason(self, result: Result) -> str:
        if not bool(self._change(result).isfinite().all()):
            return ": the adapter's own are not, its training has diverged"
        return f": {result.stored.dtype} is too narrow for them; give another dtype"

    def _tell(self, count: int) -> None:
        self.written += count
        if self.on_progress is not None:
            self.on_progress(self.written, self.plan.size_bytes)


def _config(config: Mapping[str, Any], dtype: str | None, *, untied: bool) -> dict[str, Any]:
    """The base model's configuration with what has become of its type and of its head; also in its text part."""
    changed = dict(config)
    if isinstance(text := config.get("text_config"), Mapping):
        changed["text_config"] = _config(text, dtype, untied=untied)
    if dtype is not None:
        changed["torch_dtype" if "torch_dtype" in config else "dtype"] = dtype
    if untied:
        changed["tie_word_embeddings"] = False
    return changed
