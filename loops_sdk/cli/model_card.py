"""What goes to the Hugging Face Hub of a folder: which files, with which card, and what no other machine understands.

It decides names and texts. It sends nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import attrs

from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine.peft_folder import CONFIG_FILE, PeftFolder

CARD = "README.md"

#: Files of an adapter and of a model. What else lies in a folder is sent only if it is named: it may be the state of an
#: optimizer, which is large and of use to nobody else, or something private.
_USUAL = (
    *("adapter_config.json", "adapter_model*.safetensors", "model*.safetensors", "model.safetensors.index.json"),
    *("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.*", "merges.txt", "*.jinja", "*.model", "*.tiktoken", "LICENSE*", "NOTICE*", CARD),
)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
#: It has the form of a hub id and is none.
_SHIPPED = "loops/tiny"


@attrs.frozen
class Shipment:
    """What is sent of a folder.

    Attributes:
        files: what there will be, by name: a path, or bytes that were made for it.
        left_out: names of files that are not sent.
        remarks: what a person should know before it is sent.
    """

    files: Mapping[str, Path | bytes]
    left_out: Sequence[str]
    remarks: Sequence[str] = ()

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {name: len(one) if isinstance(one, bytes) else one.stat().st_size for name, one in self.files.items()}


def shipment(folder: Path, repo_id: str, base_model: str | None, include: Sequence[str]) -> Shipment:
    """What goes to `repo_id` of a folder that holds an adapter or a whole model.

    Args:
        base_model: what the card calls the base model; `None`: what the adapter names, if that is a hub id.
        include: patterns of names that are sent as well.

    Raises:
        InvalidInputError: the folder holds neither, or a pattern fits no file.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in _visible(folder))
    for pattern in include:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InvalidInputError(f"include: no file in {folder} is called {pattern}")
    sent = [name for name in names if any(fnmatchcase(name, pattern) for pattern in (*_USUAL, *include))]
    files: dict[str, Path | bytes] = {name: folder / name for name in sent}
    remarks: list[str] = []
    if (folder / CONFIG_FILE).is_file() or not (folder / "config.json").is_file():
        adapter = PeftFolder.read(folder)
        base = _hub_id(base_model or adapter.base_model)
        if base is None or base != adapter.base_model:
            files[CONFIG_FILE] = _json({**adapter.config, "base_model_name_or_path": base})
        if base is None:
            remarks.append(f"base model {adapter.base_model} is not on the hub: --base-model ID names another")
        files.setdefault(CARD, _card(_about_adapter(adapter, repo_id, base)).encode())
    else:
        files.setdefault(CARD, _card(_about_model(repo_id, _hub_id(base_model))).encode())
    left_out = [name for name in names if name not in files]
    return Shipment(dict(sorted(files.items())), left_out, remarks)


def _visible(folder: Path) -> Iterator[Path]:
    """Files that are not hidden, nor in a hidden folder, nor links to somewhere else."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not path.is_symlink() and not hidden:
            yield path


def _hub_id(base_model: str | None) -> str | None:
    """The base model as others find it; `None` for a folder of this machine and for what ships with this package."""
    if base_model is None or base_model == _SHIPPED or Path(base_model).exists() or not _HUB_ID.fullmatch(base_model):
        return None
    return base_model


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"


# ------------------------------------------------------------------ the card


@attrs.frozen
class _About:
    data: Mapping[str, Any]
    text: str


def _card(about: _About) -> str:
    from huggingface_hub import ModelCardData

    return f"---\n{ModelCardData(**about.data).to_yaml()}\n---\n\n{about.text}"


def _about_adapter(adapter: PeftFolder, repo_id: str, base: str | None) -> _About:
    data = {
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "loops-sdk"],
        "base_model": base,
    }
    where = repr(base) if base else '"the base model"'
    layers = ", ".join(adapter.targets)
    of = f" of [{base}](https://huggingface.co/{base})" if base else ""
    return _About(
        data,
        f"""# {_title(repo_id)}

A LoRA adapter{of}, trained with loops-sdk.

| rank | alpha | layers |
|---|---|---|
| {adapter.rank} | {adapter.config["lora_alpha"]:g} | {layers} |

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained({where})
model = PeftModel.from_pretrained(base, {repo_id!r})
tokenizer = AutoTokenizer.from_pretrained({where})
```
""",
    )


def _about_model(repo_id: str, base: str | None) -> _About:
    data = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["loops-sdk"],
        "base_model": base,
        "base_model_relation": "finetune" if base else None,
    }
    of = f"[{base}](https://huggingface.co/{base})" if base else "Its base model"
    return _About(
        data,
        f"""# {_title(repo_id)}

{of} with a LoRA adapter merged into it, trained with loops-sdk.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained({repo_id!r})
tokenizer = AutoTokenizer.from_pretrained({repo_id!r})
```
""",
    )


def _title(repo_id: str) -> str:
    return repo_id.rpartition("/")[2]
