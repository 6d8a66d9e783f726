"""``loops checkpoints vllm``: the lines that serve an adapter or a merged model with vLLM, with the flags it needs.

It decides what vLLM takes as it is and what has to be merged first. It starts nothing.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from loops_sdk.cli.adapters import Source, fetched, source_argument
from loops_sdk.cli.connection import connection_options
from loops_sdk.cli.deployment import base_models
from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine.peft_folder import CONFIG_FILE, PeftFolder

#: What vLLM takes for --max-lora-rank. It sets memory aside for so much, so the smallest that suffices is the best.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
#: Names of the layers between tokens and vectors, on which vLLM takes an adapter for some architectures only.
_VOCABULARY = ("lm_head", "embed_tokens", "embed_out", "embed_in", "output_embeddings", "wte")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _name(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not _NAME.fullmatch(value):
        raise click.BadParameter(f"expected letters, digits, '.', '_' and '-', got {value!r}")
    return value


@click.command(short_help="The lines that serve it with vLLM.")
@source_argument
@click.option("--name", callback=_name, help="What requests call the model.  [default: the name of the checkpoint]")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Where vLLM listens.")
@click.option(
    "--base-model",
    shell_complete=base_models,
    help="A Hugging Face id or a folder.  [default: the one that the adapter names]",
)
@connection_options
def vllm(base_url: str, source: str, name: str | None, port: int, base_model: str | None) -> None:
    """Print the commands that serve a checkpoint, or the adapter or merged model in DIR, with vLLM, and a request that
    asks it: a shell script. Of a checkpoint only its configuration is read.

    An adapter is served beside its base model; one that vLLM does not take as it is, because it changes the head or has
    a rank beyond 512, is merged first.

    \b
    Example:  loops checkpoints vllm adapter --name help-desk
    """
    with fetched(base_url, source, only=[CONFIG_FILE]) as found:
        called = name or (found.name if _NAME.fullmatch(found.name) else "adapter")
        if not (found.folder / CONFIG_FILE).is_file() and (found.folder / "config.json").is_file():
            lines = [
                *_whole(str(found.folder.resolve()), called, port),
                "",
                *_request(called, port, _chats(found.folder)),
            ]
        else:
            adapter = PeftFolder.read(found.folder)
            lines = [*_of_adapter(found, adapter, base_model, called, port), "", *_request(called, port, chats=False)]
    click.echo("\n".join(lines))


def _whole(folder: str, called: str, port: int) -> Iterator[str]:
    yield shlex.join(["vllm", "serve", folder, "--served-model-name", called, "--port", str(port)])


def _of_adapter(found: Source, adapter: PeftFolder, base_model: str | None, called: str, port: int) -> Iterator[str]:
    base = base_model or found.base_model_of(adapter)
    if adapter.peculiarities:
        raise InvalidInputError(
            f"adapter: vLLM serves plain LoRA, and {found.given} has {', '.join(adapter.peculiarities)}: "
            f"merge it with PeftModel.merge_and_unload of the library peft, and serve that folder"
        )
    if why := _not_taken(adapter):
        yield from (f"# {line}" for line in why)
        merged = f"{called}-merged"
        more = ["--base-model", base_model] if base_model else []
        yield shlex.join(["loops", "checkpoints", "merge", found.given, merged, *more])
        yield from _whole(f"./{merged}", called, port)
    else:
        yield from _beside(found, adapter, base, called, port)


def _not_taken(adapter: PeftFolder) -> list[str]:
    """Why vLLM does not take an adapter as it is."""
    vocabulary = [name for name in _VOCABULARY if any(re.search(rf"\b{name}\b", target) for target in adapter.targets)]
    if vocabulary:
        return [
            f"The adapter changes {', '.join(vocabulary)}, which vLLM takes for some architectures only: merged into",
            "its base model it runs with all. With train_unembed=False an adapter is taken as it is.",
        ]
    if adapter.rank > _RANKS[-1]:
        return [f"The adapter has the rank {adapter.rank}, vLLM takes {_RANKS[-1]} at most: merged it has none."]
    return []


def _beside(found: Source, adapter: PeftFolder, base: str, called: str, port: int) -> Iterator[str]:
    """The adapter as it is, beside its base model."""
    folder = f"./{called}" if found.is_fetched else str(found.folder.resolve())
    if found.is_fetched:
        yield shlex.join(["loops", "checkpoints", "download", found.given, folder])
    if Path(base).is_absolute() and not Path(base).is_dir():
        yield f"# {base} is the base model where the adapter was trained, and no folder here: --base-model says another"
    rank = next(rank for rank in _RANKS if rank >= adapter.rank)
    lora = ["--enable-lora", "--max-lora-rank", str(rank), "--lora-modules", _module(called, folder, base)]
    yield shlex.join(["vllm", "serve", base, "--port", str(port), *lora])


def _module(called: str, folder: str, base: str) -> str:
    """Name and path for --lora-modules; as JSON where its short form would be taken apart in the wrong place."""
    if not {"=", ",", "{"}.intersection(folder):
        return f"{called}={folder}"
    return json.dumps({"name": called, "path": folder, "base_model_name": base})


def _request(called: str, port: int, chats: bool) -> Iterator[str]:
    """A request that asks it, as a comment: the server above does not end."""
    asked = {"messages": [{"role": "user", "content": "Hello"}]} if chats else {"prompt": "Hello"}
    path = "chat/completions" if chats else "completions"
    body = json.dumps({"model": called, **asked, "max_tokens": 32})
    yield "# in another terminal:"
    yield f"curl http://localhost:{port}/v1/{path} \\"
    yield f"  -H 'Content-Type: application/json' -d {shlex.quote(body)}"


def _chats(folder: Path) -> bool:
    """Whether a model has a chat template."""
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and bool(config.get("chat_template"))
