"""``loops checkpoints merge``: an adapter and its base model become one model."""

from __future__ import annotations

import importlib.util
import shlex
import tempfile
from pathlib import Path

import click

from loops_sdk.cli.adapters import fetched, source_argument
from loops_sdk.cli.connection import connection_options
from loops_sdk.cli.deployment import base_models
from loops_sdk.cli.output import json_option, note, print_json, size
from loops_sdk.errors import LoopsError
from loops_sdk.instrumentation.progress import shown
from loops_sdk.local.engine.peft_folder import PeftFolder

_DTYPES = ("float32", "bfloat16", "float16")


@click.command(short_help="Merge an adapter into its base model.")
@source_argument
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--base-model",
    shell_complete=base_models,
    help="A Hugging Face id, a folder, a .gguf file, or loops/tiny.  [default: the one that the adapter names]",
)
@click.option("--dtype", type=click.Choice(_DTYPES), help="Type of the result.  [default: that of the base model]")
@click.option("--max-shard-size", default="5GB", show_default=True, metavar="SIZE", help="Most of one file of weights.")
@json_option
@connection_options
def merge(
    base_url: str,
    source: str,
    out: Path,
    base_model: str | None,
    dtype: str | None,
    max_shard_size: str,
    as_json: bool,
) -> None:
    """Add the adapter in DIR, or that of a checkpoint, to the weights of its base model, and write the whole to OUT: a
    folder that AutoModelForCausalLM.from_pretrained loads, with tokenizer and configuration.

    OUT must be new or empty; it is there as a whole in the end, or not at all. A training state is taken as well: of it
    the adapter. Memory holds one file of the result at a time.

    \b
    Example:  loops checkpoints merge bt://loops:k4q95w5/sampler_weights/step-100 merged
    Example:  loops checkpoints merge adapter merged --base-model Qwen/Qwen3-8B --dtype bfloat16
    """
    if importlib.util.find_spec("torch") is None:
        raise click.ClickException("merging needs torch, which is not installed: pip install 'loops-sdk[local]'")
    from loops_sdk.local.engine.torch_engine import merging

    with fetched(base_url, source) as found, tempfile.TemporaryDirectory(prefix="loops-") as cache:
        adapter = PeftFolder.read(found.folder)
        base = base_model or found.base_model_of(adapter)
        try:
            with shown(None, "merge", f"merging into {base}") as wait:
                done = merging.merge(
                    adapter,
                    base,
                    out,
                    cache_dir=Path(cache),
                    dtype=dtype,
                    max_shard_size=max_shard_size,
                    on_progress=wait.counted,
                )
        except LoopsError as error:
            if base_model is None and error.message.startswith("base_model:"):
                error.message += " (that is what the adapter names; --base-model says what to take instead)"
            raise
    if as_json:
        files = [str(path) for path in done.files]
        print_json(
            {"folder": str(out), "base_model": base, "layers": done.layers, "files": files, "untied": done.untied}
        )
        return
    whole = size(sum(path.stat().st_size for path in done.files))
    layers = f"{done.layers} layer{'' if done.layers == 1 else 's'}"
    click.echo(f"merged {layers} of rank {adapter.rank} into {base}: {whole}, in {out}")
    if done.untied:
        note("its head shared the weights of the embedding and has its own now: tie_word_embeddings is false")
    note(f"to serve it: loops checkpoints vllm {shlex.quote(str(out))}")
