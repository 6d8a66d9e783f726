"""Where a base model lies: the shipped one, a folder, a GGUF file that is converted once, or a hub id.

It decides which path the loaders get and what is said when there is none. It loads no weights except to convert them.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from loops_sdk.errors import ConnectionFailedError, InvalidInputError

__all__ = ["SHIPPED", "quiet", "resolve"]

#: The base model that ships with the package.
SHIPPED = "loops/tiny"
_SHIPPED_FOLDER = Path(__file__).resolve().parents[1] / "tiny" / "weights"

#: Seconds for the one question that tells whether the hub can be reached.
_HUB_TIMEOUT = 10.0


def resolve(base_model: str, cache_dir: Path) -> str:
    """What `from_pretrained` of transformers takes for `base_model`: a folder, or the id of a model on the hub.

    Args:
        base_model: ``"loops/tiny"``, a folder, a ``.gguf`` file or a hub id.
        cache_dir: where converted GGUF files are kept.

    Raises:
        InvalidInputError: no such folder, file or model.
        ConnectionFailedError: a hub id that is not in the local cache while the hub cannot be reached.
    """
    if base_model == SHIPPED:
        return _folder(_SHIPPED_FOLDER, base_model)
    path = Path(base_model).expanduser()
    if path.is_dir():
        return _folder(path, base_model)
    if path.suffix.lower() == ".gguf":
        return str(_converted(path, cache_dir))
    if path.is_absolute() or base_model.startswith((".", "~")) or base_model.count("/") > 1:
        raise InvalidInputError(f"base_model: there is no folder {path.absolute()}")
    return _on_hub(base_model)


def _folder(path: Path, base_model: str) -> str:
    if not (path / "config.json").is_file():
        raise InvalidInputError(f"base_model: {base_model!r} is no model folder, {path.absolute()} has no config.json")
    return str(path.absolute())


def _converted(path: Path, cache_dir: Path) -> Path:
    """The safetensors folder made from a GGUF file; keyed by name, size and time of change, complete or absent."""
    if not path.is_file():
        raise InvalidInputError(f"base_model: there is no file {path.absolute()}")
    stat = path.stat()
    key = hashlib.sha256(f"{path.absolute()}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()[:12]
    target = cache_dir / "gguf" / f"{path.stem}-{key}"
    if not (target / "config.json").is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        _convert(path, target)
    return target.absolute()


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars from transformers; they would land in a server's log."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _convert(path: Path, target: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    where: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    folder = str(path.parent.absolute())
    try:
        with quiet():
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.bfloat16, trust_remote_code=False, **where, **_unpacked()
            )
            model.save_pretrained(scratch)
            AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **where).save_pretrained(scratch)
        _publish(scratch, target)
    except Exception as error:  # a broken file can fail anywhere in the reader
        raise InvalidInputError(f"base_model: transformers cannot read {path} ({error})") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unpacked() -> dict[str, Any]:
    """What keeps newer versions of transformers from leaving the weights in GGUF's blocks; older ones never did."""
    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def _publish(scratch: Path, target: Path) -> None:
    try:
        scratch.replace(target)
    except OSError:  # trainer and sampler may convert the same file at the same time; either result is as good
        if not (target / "config.json").is_file():
            raise


def _on_hub(base_model: str) -> str:
    """The id itself while the hub answers, else the folder in its local cache. One question, so that nothing hangs."""
    try:
        HfApi().model_info(base_model, timeout=_HUB_TIMEOUT)
    except HFValidationError:
        raise InvalidInputError(f"base_model: {base_model!r} is neither a folder, a .gguf file nor a hub id") from None
    except RepositoryNotFoundError:
        raise InvalidInputError(f"base_model: the hub has no model {base_model!r}, or it needs a token") from None
    except Exception as error:  # the client's network errors have no common base across its versions
        return _cached(base_model, error)
    return base_model


def _cached(base_model: str, trouble: Exception) -> str:
    try:
        return _folder(Path(snapshot_download(base_model, local_files_only=True)), base_model)
    except LocalEntryNotFoundError:
        raise ConnectionFailedError(
            f"base_model: {base_model!r} is no folder, not in {constants.HF_HUB_CACHE}, and the hub did not answer "
            f"({type(trouble).__name__}); give a folder, a .gguf file or {SHIPPED!r}",
            url=constants.ENDPOINT,
        ) from trouble
