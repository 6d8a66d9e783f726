"""Our namespace beside the original's: names, signatures, defaults, and what the types do. Needs the package tinker."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import importlib.util
import pickle
from collections.abc import Callable
from fnmatch import fnmatchcase
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import loops_sdk_sync.tinker.types

if importlib.util.find_spec("tinker") is None:
    pytest.skip("the original is not installed; the nox session `cookbook` installs it", allow_module_level=True)

import tinker.types

from .differences import DIFFERENCES, MOVED
from .facts import OF_PYDANTIC, differences, of_modules, public

OURS, ORIGINAL = loops_sdk_sync.tinker.types, tinker.types

#: In this order: what a later one shows again is the same object.
MODULES = ("tinker.types", "tinker.lib.retry_handler", "tinker.lib.public_interfaces", "tinker")

#: Of modules that are not public as a whole, the names that scripts import.
ONLY = {"tinker.lib.retry_handler": ["RetryConfig"]}


def found() -> dict[str, str]:
    original, ours = (
        {name: importlib.import_module(f"{package}{name}") for name in MODULES} for package in ("", "loops_sdk_sync.")
    )
    return differences(of_modules(original, ONLY), of_modules(ours, ONLY))


def test_the_original_is_not_ours() -> None:
    assert ORIGINAL is not OURS, "the loader is active: there is nothing to compare with"


def test_every_difference_has_a_reason() -> None:
    unexplained = {key: what for key, what in found().items() if not any(fnmatchcase(key, one) for one in DIFFERENCES)}
    assert unexplained == {}


def test_every_reason_has_a_difference() -> None:
    keys = list(found())
    assert [one for one in DIFFERENCES if not any(fnmatchcase(key, one) for key in keys)] == []


def test_a_planted_difference_is_seen() -> None:
    ours = {"tinker.A": "class", "tinker.A.run": "function", "tinker.A.run(x)": "1. positional or keyword, default 1"}
    original = {**ours, "tinker.A.run(x)": "1. positional or keyword, required", "tinker.A.stop": "coroutine function"}
    assert differences(original, ours) == {
        "tinker.A.run(x)": "1. positional or keyword, required -> 1. positional or keyword, default 1",
        "tinker.A.stop": "coroutine function -> absent",
    }


def shown_by_both() -> dict[str, list[str]]:
    """The names that scripts may import from a module of one type, by the original's module."""
    modules = {name: value for name, value in vars(ORIGINAL).items() if isinstance(value, ModuleType)}
    names = {name: set(getattr(module, "__all__", vars(module))) for name, module in modules.items() if name[0] != "_"}
    return {name: sorted(ours) for name, all_ in names.items() if (ours := all_.intersection(public(OURS)))}


@pytest.mark.parametrize("module", shown_by_both())
def test_a_type_is_in_the_module_where_the_original_has_it(module: str) -> None:
    ours = importlib.import_module(f"loops_sdk_sync.tinker.types.{MOVED.get(module, module)}")
    for name in shown_by_both()[module]:
        assert getattr(ours, name) is getattr(OURS, name)


def test_what_has_moved_is_not_in_its_old_place() -> None:
    assert [old for old in MOVED if old not in shown_by_both()] == []
    assert [old for old in MOVED if importlib.util.find_spec(f"loops_sdk_sync.tinker.types.{old}")] == []


def test_ours_have_the_methods_of_pydantic_that_scripts_call() -> None:
    called = {"model_copy", "model_dump", "model_dump_json", "model_fields", "model_validate", "model_validate_json"}
    assert called <= OF_PYDANTIC
    assert [name for name in called if not hasattr(OURS.SamplingParams, name)] == []


# ---------------------------------------------------------------- what they do: the same calls on both

Types = Any


def run(t: Types) -> Any:
    return t.ModelInput.from_ints([1, 2]).append_int(3)


def datum(t: Types) -> Any:
    return t.Datum(model_input=run(t), loss_fn_inputs={"target_tokens": [2, 3, 4], "weights": [0, 1, 0.5]})


def tensors(value: Any) -> Any:
    return {name: (one.data, one.dtype, one.shape) for name, one in value.loss_fn_inputs.items()}


def sparse(t: Types) -> Any:
    return t.TensorData([7, 8], "int64", [2, 6], [0, 1, 2], [4, 0])


def checkpoint(t: Types) -> Any:
    return t.Checkpoint.model_validate(
        {
            "checkpoint_id": "weights/a",
            "checkpoint_type": "training",
            "time": "2026-01-02T03:04:05Z",
            "tinker_path": "tinker://run/weights/a",
            "not_known_yet": 1,
        }
    )


def topk(t: Types) -> Any:
    module = importlib.import_module(t.__name__ + ".topk_logprobs")
    tokens = np.array([[5, 6], [0, 0], [7, 0]], dtype=np.int32)
    logprobs = np.array([[-1, -2], [-99999, -99999], [-0.5, -99999]], dtype=np.float32)
    return module.TopkLogprobs(token_ids=tokens, logprobs=logprobs)


def sampled(t: Types) -> Any:
    logprobs = np.array([-0.5, -0.25], dtype=np.float32)
    return t.SampledSequence("stop", "s", np.array([1, 2], dtype=np.int32), logprobs, topk(t))


BEHAVIOURS: dict[str, Callable[[Types], Any]] = {
    "an input": run,
    "its tokens": lambda t: (run(t).to_ints(), run(t).length, t.ModelInput.empty().length),
    "its chunks": lambda t: (run(t).chunks, isinstance(run(t).chunks, list)),
    "an input with an image has no tokens": lambda t: t.ModelInput(
        chunks=[t.ImageChunk(data=b"abc", format="png")]
    ).to_ints(),
    "chunks from dicts": lambda t: t.ModelInput(chunks=[{"type": "encoded_text", "tokens": [1]}]),
    "an unknown chunk": lambda t: t.ModelInput(chunks=[{"type": "smell", "tokens": [1]}]),
    "no chunks": lambda t: t.ModelInput(),
    "tokens of numpy": lambda t: t.EncodedTextChunk(tokens=[np.int64(1)]),
    "tokens in an array": lambda t: t.EncodedTextChunk(tokens=np.array([1])),
    "tokens in a tuple have a hash": lambda t: hash(t.EncodedTextChunk(tokens=(1,))) is not None,
    "tokens in a list have none": lambda t: hash(t.EncodedTextChunk(tokens=[1])),
    "tokens that are text": lambda t: t.EncodedTextChunk(tokens="12"),
    "a field too many": lambda t: t.LoraConfig(rank=1, alpha=2),
    "a field too few": lambda t: t.LoraConfig(),
    "values compare": lambda t: (run(t) == run(t), t.LoraConfig(rank=1) == t.LoraConfig(rank=2)),
    "values dump": lambda t: (run(t).model_dump(), t.SamplingParams(stop=("a",)).model_dump()),
    "values dump what was set": lambda t: t.SamplingParams(max_tokens=1, seed=None).model_dump(exclude_unset=True),
    "values dump what is not None": lambda t: t.SamplingParams(max_tokens=1, seed=None).model_dump(exclude_none=True),
    "values dump some": lambda t: t.SamplingParams().model_dump(include={"top_k", "top_p"}, exclude={"top_p"}),
    "values dump to JSON": lambda t: (run(t).model_dump_json(), run(t).model_dump_json(indent=2)),
    "values as dicts": lambda t: dict(t.LoraConfig(rank=1)),
    "an image dumps": lambda t: t.ImageChunk(data=b"abc", format="png", expected_tokens=3).model_dump(),
    "an image from text": lambda t: t.ImageChunk(data="YWJj", format="jpeg").data,
    "an image without a length": lambda t: t.ImageChunk(data=b"abc", format="png").length,
    "an image of another kind": lambda t: t.ImageChunk(data=b"abc", format="gif"),
    "sound": lambda t: t.DmelChunk(dmel=bytes([2, 2, 0x85, 1, 80])).length,
    "sound of one value": lambda t: t.DmelChunk(dmel=bytes([254, 2, 1, 9, 0])).length,
    "sound that is none": lambda t: t.DmelChunk(dmel=b"\xff").length,
    "sound cut off": lambda t: t.DmelChunk(dmel=bytes([2, 2, 0x85])).length,
    "a copy": lambda t: t.LoraConfig(rank=1).model_copy(update={"rank": 2}),
    "a copy knows what was set": lambda t: copy.deepcopy(t.LoraConfig(rank=1)).model_fields_set,
    "a pickle": lambda t: pickle.loads(pickle.dumps(run(t))) == run(t),
    "a checkpoint": lambda t: checkpoint(t).model_dump(mode="json"),
    "a checkpoint in Python": lambda t: str(checkpoint(t).model_dump()["time"]),
    "a checkpoint of no known kind": lambda t: t.Checkpoint.model_validate({"checkpoint_type": "other"}),
    "a path": lambda t: t.ParsedCheckpointTinkerPath.from_tinker_path("tinker://run:a/sampler_weights/b"),
    "a path of another kind": lambda t: t.ParsedCheckpointTinkerPath.from_tinker_path("tinker://run/heights/b"),
    "a path too short": lambda t: t.ParsedCheckpointTinkerPath.from_tinker_path("tinker://run/weights"),
    "a path too long": lambda t: t.ParsedCheckpointTinkerPath.from_tinker_path("tinker://run/weights/a/b"),
    "a run": lambda t: t.TrainingRun(
        training_run_id="a",
        base_model="b",
        model_owner="c",
        is_lora=True,
        last_request_time="2026-01-02T03:04:05+01:00",
        last_checkpoint=checkpoint(t).model_dump(),
    ).model_dump_json(),
    "information": lambda t: t.GetInfoResponse(model_data={"arch": "a"}, model_id="m").model_dump(),
    "optimizers": lambda t: (t.AdamParams(learning_rate=1), t.DimuonParams(learning_rate=0.5), t.AdamOptimizerConfig()),
    "a rate below 0": lambda t: t.DimuonParams(learning_rate=-1),
    "a rate of numpy": lambda t: t.AdamParams(learning_rate=np.float64(0.5)),
    "spans": lambda t: (t.SampledProvenanceSpan(sequence_id="a", length=2), t.PromptProvenanceSpan("a", 0, 1)),
    "spans below 0": lambda t: t.SampledProvenanceSpan(sequence_id="a", length=-2),
    "spans of nobody": lambda t: t.PromptProvenanceSpan(sequence_id="", length=2),
    "a datum": lambda t: (datum(t), tensors(datum(t))),
    "a datum is replaced": lambda t: tensors(dataclasses.replace(datum(t), loss_fn_inputs={"weights": [1, 2, 3]})),
    "a datum's fields": lambda t: [field.name for field in dataclasses.fields(t.Datum)],
    "a datum as a dict": lambda t: dataclasses.asdict(datum(t)),
    "a datum's inputs can be assigned to": lambda t: datum(t).loss_fn_inputs.update(weights=1),
    "a datum is frozen": lambda t: setattr(datum(t), "loss_fn_inputs", {}),
    "a datum of floats for tokens": lambda t: tensors(t.Datum(run(t), {"target_tokens": [1.0, 2.0]})),
    "a datum of arrays": lambda t: tensors(t.Datum(run(t), {"anything": np.ones((2, 2))})),
    "a datum of ragged lists": lambda t: t.Datum(run(t), {"weights": [[1], [1, 2]]}),
    "a datum of text": lambda t: t.Datum(run(t), {"weights": "ab"}),
    "a datum of no list": lambda t: t.Datum(run(t), {"weights": []}).loss_fn_inputs["weights"].shape,
    "a datum with spans": lambda t: datum(t).with_provenance(
        [t.PromptProvenanceSpan(sequence_id="a", length=3)], [t.SampledProvenanceSpan(sequence_id="a", length=3)]
    ),
    "a datum with spans too short": lambda t: datum(t).with_provenance(
        [t.PromptProvenanceSpan(sequence_id="a", length=2)], [t.SampledProvenanceSpan(sequence_id="a", length=3)]
    ),
    "a tensor": lambda t: t.TensorData([1, 2, 3, 4], "int64", [2, 2]).tolist(),
    "a tensor's text": lambda t: t.TensorData(data=[1, 2], dtype="int64", shape=[2]),
    "a tensor of no type": lambda t: t.TensorData([1]),
    "a tensor of another type": lambda t: t.TensorData([1], "float64"),
    "a tensor of another shape": lambda t: t.TensorData([1, 2, 3], "int64", [2]),
    "a tensor cut off": lambda t: t.TensorData([1.7, -1.7], "int64").data,
    "a tensor of nothing": lambda t: t.TensorData(dtype="float32").data,
    "a tensor keeps its array": lambda t: (lambda array: t.TensorData.from_numpy(array).to_numpy() is array)(
        np.ones(2, "f4")
    ),
    "a tensor is equal to itself only": lambda t: (
        t.TensorData([1], "int64") == t.TensorData([1], "int64"),
        (lambda one: one == one)(t.TensorData([1], "int64")),
    ),
    "a tensor of truths": lambda t: t.TensorData.from_numpy(np.array([True])),
    "a sparse tensor": lambda t: (sparse(t), sparse(t).data, sparse(t).tolist(), sparse(t).tolist(-1)),
    "padding that is a truth": lambda t: sparse(t).tolist(True),
    "padding that is a fraction": lambda t: sparse(t).to_numpy(0.5),
    "a sequence": lambda t: (sampled(t), sampled(t).tokens, sampled(t).logprobs, sampled(t).topk_logprobs),
    "a sequence of nothing": lambda t: (lambda one: (one.tokens, one.logprobs))(t.SampledSequence("length", "s")),
    "a sequence in a pickle": lambda t: pickle.loads(pickle.dumps(sampled(t))).tokens,
    "a response": lambda t: (lambda one: (one, one.prompt_logprobs, one.topk_prompt_logprobs))(
        t.SampleResponse([sampled(t)], np.array([np.nan, -0.5], dtype=np.float32), topk(t))
    ),
    "a response without logprobs": lambda t: t.SampleResponse([]).prompt_logprobs,
    "a failure's category": lambda t: [str(one) for one in t.RequestErrorCategory],
}


def outcome(call: Callable[[Types], Any], t: Types) -> str:
    """What comes out, as text; of an error its kind: the texts are our own."""
    try:
        return repr(call(t)).replace("loops_sdk_sync.", "")
    except Exception as error:
        kinds = (TypeError, ValueError, AttributeError)
        return next((kind.__name__ for kind in kinds if isinstance(error, kind)), type(error).__name__)


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_the_types_do_what_the_originals_do(name: str) -> None:
    assert outcome(BEHAVIOURS[name], OURS) == outcome(BEHAVIOURS[name], ORIGINAL)


@pytest.mark.parametrize("pad", [0, -100, 3])
@pytest.mark.parametrize("kind", ["int64", "float32", "bfloat16"])
def test_torch_goes_in_and_out_as_in_the_original(pad: int, kind: str) -> None:
    torch = pytest.importorskip("torch")
    dense = torch.full((4, 32), pad, dtype=getattr(torch, kind))
    dense[0, 1], dense[2, 31], dense[2, 2] = 5, 7, pad + 1
    for tensor in (dense, dense.T, dense[0], torch.arange(64, dtype=dense.dtype).reshape(2, 32)):
        assert_same(torch, *(t.TensorData.from_torch(tensor) for t in (OURS, ORIGINAL)), 0)
        if kind != "bfloat16":  # which the original cannot make sparse
            assert_same(torch, *(t.TensorData.from_torch_sparse(tensor, pad) for t in (OURS, ORIGINAL)), pad)


def assert_same(torch: Any, ours: Any, original: Any, pad: int) -> None:
    assert repr(ours) == repr(original)
    assert ours.data == original.data
    assert torch.equal(ours.to_torch(pad), original.to_torch(pad))
