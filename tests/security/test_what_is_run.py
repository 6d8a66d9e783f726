"""No code comes with data: nothing is unpickled or evaluated, and no program of a model's folder is run."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import loops_sdk
import loops_sdk_sync
from loops_sdk._clients.tokenizers import tokenizer_of
from loops_sdk.errors import InvalidInputError
from loops_sdk.instrumentation.waiting import nobody
from loops_sdk.local.engine.peft_folder import WEIGHTS_FILE

PACKAGES = [Path(str(package.__file__)).parent for package in (loops_sdk, loops_sdk_sync)]
SHIPPED = PACKAGES[0] / "local" / "engine" / "tiny" / "weights"
#: Modules that make code of data, and functions that do.
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml", "xml", "ctypes"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
UNSAFE_METHODS = {("torch", "load"), ("np", "load"), ("numpy", "load"), ("os", "system"), ("os", "popen")}


def sources() -> Iterator[tuple[Path, ast.AST]]:
    for package in PACKAGES:
        for path in sorted(package.rglob("*.py")):
            yield path, ast.parse(path.read_text())


def offences(tree: ast.AST) -> Iterator[str]:
    """What a source does that could run what it was given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in UNSAFE_MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            yield from _offences_of_call(node)


def _offences_of_call(call: ast.Call) -> Iterator[str]:
    function = call.func
    if isinstance(function, ast.Name) and function.id in UNSAFE_CALLS:
        yield function.id
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        yield from {".".join(one) for one in UNSAFE_METHODS if one == (function.value.id, function.attr)}
    for keyword in call.keywords:
        known = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        if keyword.arg in ("trust_remote_code", "allow_pickle", "shell") and not known:
            yield f"{keyword.arg}="


def test_no_source_makes_code_of_data() -> None:
    found = {str(path): list(offences(tree)) for path, tree in sources()}
    assert len(found) > 50
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from torch import nn\nimport torch\ntorch.load('x')",
        "np.load('x', allow_pickle=True)",
        "eval('1')",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "AutoModel.from_pretrained('x', trust_remote_code=given)",
        "import yaml",
    ],
)
def test_what_that_test_would_find(source: str) -> None:
    assert list(offences(ast.parse(source)))


def test_every_loading_says_that_no_code_is_wanted() -> None:
    """What transformers does without the argument has changed from version to version."""
    silent = []
    for path, tree in sources():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "from_pretrained"
            ):
                named = {keyword.arg for keyword in node.keywords}
                if "trust_remote_code" not in named:
                    silent.append(path.name)
    assert set(silent) <= {"measure.py"}, "that one reads what `pretrain` has just written"


CODE = """
from pathlib import Path
(Path(__file__).parent / "it-was-run").touch()
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class OwnConfig(LlamaConfig): model_type = "own"
class OwnModel(LlamaForCausalLM): config_class = OwnConfig
class OwnTokenizer(PreTrainedTokenizerFast): pass
"""


@pytest.fixture
def with_code(tmp_path: Path) -> Path:
    """A model's folder that brings a program."""
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED, folder)
    (folder / "own.py").write_text(CODE)
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": classes}))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    own = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps({**tokenizer, **own}))
    return folder


def test_the_program_of_a_tokenizer_is_not_run(with_code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(with_code / "modules"))
    with contextlib.suppress(InvalidInputError):  # refused, or read without its class: either will do
        tokenizer = asyncio.run(tokenizer_of(str(with_code), nobody))
        assert type(tokenizer).__module__.startswith("transformers.")
    assert not list(with_code.rglob("it-was-run"))


def test_the_program_of_a_model_is_not_run(with_code: Path, tmp_path: Path) -> None:
    models = pytest.importorskip("loops_sdk.local.engine.torch_engine.models")
    with pytest.raises(InvalidInputError, match="cannot be loaded"):
        models.load(str(with_code), cache_dir=tmp_path)
    assert not list(with_code.rglob("it-was-run"))


def test_weights_that_are_pickled_are_refused(tmp_path: Path) -> None:
    models = pytest.importorskip("loops_sdk.local.engine.torch_engine.models")
    import torch
    from safetensors.torch import load_file

    folder = tmp_path / "model"
    shutil.copytree(SHIPPED, folder)
    assert models.load(str(folder), cache_dir=tmp_path)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InvalidInputError, match="safetensors"):
        models.load(str(folder), cache_dir=tmp_path)


def test_an_adapter_that_is_pickled_is_refused(tmp_path: Path) -> None:
    files = pytest.importorskip("loops_sdk.local.engine.torch_engine.files")
    import torch

    torch.save({"x": torch.zeros(1)}, tmp_path / WEIGHTS_FILE)
    with pytest.raises(RuntimeError, match="cannot be read"):
        files.read_tensors(tmp_path / WEIGHTS_FILE)
