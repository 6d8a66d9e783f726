"""The environment variables that the packages read: what each of them means, and where it is read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from loops_sdk.docs._reading import Module, Sources
else:  # part of a script, which imports neither package
    from _reading import Module, Sources

#: Every environment variable that the packages read.
ENVIRONMENT = {
    "CI": "Whether nobody looks on: unless it is empty, ``0`` or ``false``, a `ServiceClient` shows nothing of what it "
    "waits for, if it is not told to.",
    "BASETEN_API_KEY": "The key for a `ServiceClient`, `TrainingClient` or `SamplingClient` that is given none.",
    "BT_LOOPS_MAX_CONNECTIONS": "Most connections to one server, for each service client and each client that was made "
    "from an address. Default: 1000 while they are soon free again, else as many as the process may open.",
    "LOOPS_BASE_MODEL": "The base model that the example programs train; ``loops run`` sets it, ``loops serve`` prints "
    "it. Default: ``Qwen/Qwen3-8B``.",
    "LOOPS_BASE_URL": "Address of the control plane for a `ServiceClient` that is given none. Default: "
    "``https://api.baseten.co``.",
    "LOOPS_METRICS_DIR": "Folder in which every training client of a `ServiceClient` writes its curves, a row per step "
    "in a file per run: see `loops_sdk.instrumentation.MetricsObserver`. ``loops run`` sets it for its script, ``loops "
    "serve`` prints it. Default: nothing is written.",
    "LOOPS_PROGRESS": "``0`` keeps every `ServiceClient` and `loops_sdk.local.LocalStack` that is not told otherwise "
    "from showing what it waits for, ``1`` makes it. Default: shown in a notebook, and where standard error is a "
    "terminal.",
    "LOOPS_REUSE_FROM_RUN_ID": "The run whose trainer and sampler a `ServiceClient` takes over where they still run, "
    "unless a keyword names a run or a session.",
    "LOOPS_REUSE_FROM_SESSION_ID": "The session whose trainers and samplers a `ServiceClient` takes over where they "
    "still run, unless a keyword names a run or a session; runs prefer ``LOOPS_REUSE_FROM_RUN_ID``.",
    "LOOPS_TEAM": "Name of the team that sessions, runs and samplers belong to, for a `ServiceClient` that is given "
    "none.",
    "LOOPS_WARM_START_SAMPLER": "``true`` makes `ServiceClient.create_lora_training_client_async` provision the paired "
    "sampler together with the trainer, unless ``with_sampler`` says otherwise. Default: ``false``.",
    "S3_REGION": "Region of the bucket that checkpoints lie in, for addresses on S3's global endpoint.",
    "SSL_CERT_FILE": "File with the certificates of the authorities that TLS trusts, in place of the machine's own, as "
    "OpenSSL reads it; ``loops doctor`` says so.",
    "TEACHER_API_KEY": "The key of the deployment that the example ``distillation`` finds at its ``--teacher-url``. "
    "Default: ``BASETEN_API_KEY``.",
    "TERM": "``dumb`` is a terminal on which no line can be drawn anew: progress is not shown there.",
    "PYTHONPATH": "Handed on to the processes of `loops_sdk.local.LocalStack`, behind the place of this package. "
    "``loops_sdk_sync.tinker.install()`` puts a folder before it, by which child processes import the same.",
}
#: Environment variables that guests of the packages read.
GUESTS = {
    "HF_ENDPOINT, HF_TOKEN": "Address of the Hugging Face Hub, and the token for it: ``loops checkpoints push-hf``.",
    "HF_HOME": "Where transformers keeps tokenizers and models that it has downloaded.",
    "HTTPS_PROXY, HTTP_PROXY, NO_PROXY": "Proxies for addresses that are not on this machine, in the usual form.",
    "WANDB_API_KEY, WANDB_BASE_URL, WANDB_MODE": "Key, server and mode of Weights & Biases, see `WandbConfig`.",
}
_MENTION = re.compile(r"\b(environ|getenv)\b")


def variables(sources: Sources) -> Iterator[tuple[str, tuple[Module, ast.AST]]]:
    """Every environment variable that the code reads, with a place where it does."""
    for package in ("loops_sdk", "loops_sdk_sync"):
        paths = sorted((sources.root / package).rglob("*.py"))
        for path in (path for path in paths if _MENTION.search(path.read_text(encoding="utf-8"))):
            module = Module(sources, path)
            for node, name in _reads(module):
                yield from ((text, (module, node)) for text in _texts(module, name))


def _reads(module: Module) -> Iterator[tuple[ast.AST, ast.expr]]:
    """Expressions that name a variable. The environment as a whole may only be handed on, in ``{**os.environ}``."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.environ.pop", "os.getenv"):
            yield node, node.args[0]
        elif isinstance(node, ast.Subscript) and _is_environ(node.value):
            yield node, node.slice
        elif isinstance(node, ast.Attribute) and _is_environ(node.value) and node.attr in ("get", "pop"):
            pass
        elif isinstance(node, ast.ImportFrom) and node.module == "os" and _MENTION.search(ast.unparse(node)):
            raise module.unknown(node, "no rule for the environment under a name of its own")
        elif not isinstance(node, ast.Dict):
            for inner in filter(_is_environ, ast.iter_child_nodes(node)):
                raise module.unknown(inner, "os.environ: no rule for this use of it")


def _is_environ(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) == "os.environ"


def _texts(module: Module, node: ast.expr) -> Iterator[str]:
    """The text of a literal, of the constant that a name stands for, or of all that a parameter is given."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
        return
    found = module.constant(node)
    given = [found] if found is not None else [(module, value) for value in _given(module, node)]
    if not given:
        raise module.unknown(node, "an environment variable whose name is not a constant")
    for where, value in given:
        yield from _texts(where, value)


def _given(module: Module, node: ast.expr) -> Iterator[ast.expr]:
    """What the function around a name is called with in its place, anywhere in the module."""
    functions = [one for one in module.tree.body if isinstance(one, ast.FunctionDef) and node in ast.walk(one)]
    for function in functions:
        names = [parameter.arg for parameter in function.args.args]
        if isinstance(node, ast.Name) and node.id in names:
            calls = (one for one in ast.walk(module.tree) if isinstance(one, ast.Call))
            named = (one for one in calls if ast.unparse(one.func) == function.name)
            yield from (call.args[names.index(node.id)] for call in named)
