"""The generation engine: invisible batches, adapters side by side, stops, prompt logprobs, queue and failures."""

from __future__ import annotations

import gc
import json
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine import AdapterConfig, Generation, GenerationEngine, GenerationRequest
from loops_sdk.local.engine.torch_engine.decoder import Decoder
from loops_sdk.local.engine.torch_engine.generation import TorchGenerationEngine
from loops_sdk.local.engine.torch_engine.kv_cache import RowCache
from loops_sdk.local.engine.torch_engine.requests import Job
from loops_sdk.local.engine.torch_engine.training import TorchTrainingEngine
from loops_sdk.types import Datum, SamplingParams

Engines = Callable[..., TorchGenerationEngine]
Trainers = Callable[..., TorchTrainingEngine]
Folder = Callable[[str], str]

ARCHITECTURES = ["llama", "tied", "qwen3", "opt", "gpt2"]
#: Seeds of random models pick few end tokens; requests here say how long they want to be.
GREEDY = SamplingParams(temperature=0, max_tokens=12)


def request(length: int = 6, start: int = 10, **fields: Any) -> GenerationRequest:
    params = {
        name: fields.pop(name) for name in list(fields) if name in ("temperature", "top_p", "top_k", "stop", "seed")
    }
    most = fields.pop("max_tokens", 12)
    return GenerationRequest(range(start, start + length), SamplingParams(max_tokens=most, **params), **fields)


def run(engine: TorchGenerationEngine, *requests: GenerationRequest, every: int = 0) -> list[Generation]:
    """Results in the order of the requests, which join all at once or `every` so many steps."""
    tickets, results, waiting, steps = [], {}, list(requests), 0
    while waiting or engine.pending:
        while waiting and (not every or steps % every == 0 or not engine.pending):
            tickets.append(engine.add(waiting.pop(0)))
            if every:
                break
        results |= dict(engine.step())
        steps += 1
        assert steps < 2000
    for result in results.values():
        if isinstance(result, Exception):
            raise result
    return [results[ticket] for ticket in tickets]


def same(left: Generation, right: Generation) -> None:
    assert left.tokens == right.tokens
    assert left.texts == right.texts
    assert left.finish_reasons == right.finish_reasons
    for mine, theirs in zip(left.logprobs, right.logprobs, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)


def publish(trainer: TorchTrainingEngine, folder: Path, seed: int = 3, scale: float = 0.2) -> Path:
    """An adapter that visibly changes the model."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in trainer._adapter.tensors.items():
        if "lora_B" in name:
            tensor.data.normal_(0, scale, generator=generator)
    trainer.save_adapter(folder)
    return folder


CROWD = [
    request(6, temperature=0),
    request(3, 40, seed=1, num_samples=3),
    request(30, 5, seed=2, temperature=0.7, top_p=0.9, max_tokens=25),
    request(1, 77, seed=3, top_k=5, max_tokens=40),
    request(12, 120, seed=1, temperature=1.5, max_tokens=3),
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("every", [0, 1, 4])
def test_a_crowd_gives_what_each_gets_alone(generation_engine: Engines, architecture: str, every: int) -> None:
    alone = [run(generation_engine(architecture), one)[0] for one in CROWD]
    for mine, theirs in zip(run(generation_engine(architecture), *CROWD, every=every), alone, strict=True):
        same(mine, theirs)


@pytest.mark.parametrize("max_rows", [1, 2, 4])
def test_few_rows_only_make_it_slower(generation_engine: Engines, max_rows: int) -> None:
    engine = generation_engine(max_rows=max_rows)
    for mine, theirs in zip(run(engine, *CROWD), run(generation_engine(), *CROWD), strict=True):
        same(mine, theirs)


def test_rows_are_bounded_and_the_rest_waits_in_order(generation_engine: Engines) -> None:
    engine = generation_engine(max_rows=2)
    tickets = [engine.add(request(max_tokens=4, temperature=0)) for _ in range(4)]
    finished = []
    while engine.pending:
        finished += [ticket for ticket, _ in engine.step()]
        assert sum(len(batch.rows) for batch in engine._batches) <= 2
    assert finished == tickets


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_equals_transformers_generate(
    generation_engine: Engines, model_folder: Folder, architecture: str
) -> None:
    prompt = list(range(10, 22))
    model = AutoModelForCausalLM.from_pretrained(model_folder(architecture))
    model.generation_config.update(max_new_tokens=20, do_sample=False, pad_token_id=0)
    tokens = torch.tensor([prompt])
    wanted = model.generate(tokens, attention_mask=torch.ones_like(tokens))[0, len(prompt) :].tolist()
    (got,) = run(
        generation_engine(architecture), GenerationRequest(prompt, SamplingParams(temperature=0, max_tokens=20))
    )
    assert got.tokens == [wanted]
    assert got.finish_reasons == ["stop" if wanted[-1] == 0 else "length"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logprobs_are_those_of_the_trainer(
    generation_engine: Engines, training_engine: Trainers, tmp_path: Path, architecture: str, temperature: float
) -> None:
    trainer, engine = training_engine(architecture), generation_engine(architecture)
    engine.load_adapter("a", publish(trainer, tmp_path / "a"))
    ask = request(9, adapter="a", temperature=temperature, seed=4, num_samples=2, prompt_logprobs=0, max_tokens=30)
    (got,) = run(engine, ask)
    for tokens, logprobs in zip(got.tokens, got.logprobs, strict=True):
        whole = [*ask.prompt, *tokens]
        wanted = trainer.forward([Datum(whole)], "cross_entropy", None).loss_fn_outputs[0]["logprobs"].tolist()
        assert logprobs == pytest.approx(wanted[8:-1], abs=1e-3)
        assert got.prompt_logprobs is not None
        own = [entry[token][0] for entry, token in zip(got.prompt_logprobs[1:], ask.prompt[1:], strict=True) if entry]
        assert own == pytest.approx(wanted[:8], abs=1e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_equal_those_of_peft(
    generation_engine: Engines, training_engine: Trainers, model_folder: Folder, tmp_path: Path, architecture: str
) -> None:
    engine = generation_engine(architecture)
    engine.load_adapter("a", publish(training_engine(architecture), tmp_path / "a"))
    base = AutoModelForCausalLM.from_pretrained(model_folder(architecture))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft warns of tied heads, transposed layers and its own deprecations
        model = peft.PeftModel.from_pretrained(base, tmp_path / "a").eval()
    prompt = list(range(30, 50))
    adapter = engine._adapters["a"]
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([prompt])).logits[0]
    hidden, _ = engine._decoder.prefill([prompt], adapter)
    torch.testing.assert_close(engine._decoder.scores(hidden[0], adapter), wanted, rtol=1e-4, atol=1e-4)


def test_prompt_logprobs_rank_and_alternatives(generation_engine: Engines, model_folder: Folder) -> None:
    prompt = [5, 9, 200, 3, 3, 17]
    (got,) = run(generation_engine(), GenerationRequest(prompt, SamplingParams(max_tokens=1), prompt_logprobs=3))
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    with torch.no_grad():
        plain = model(input_ids=torch.tensor([prompt])).logits[0].log_softmax(-1)
    assert got.prompt_logprobs is not None
    assert got.prompt_logprobs[0] is None
    for position, entry in enumerate(got.prompt_logprobs[1:]):
        assert entry is not None
        values, tokens = plain[position].sort(descending=True)
        token = prompt[position + 1]
        rank = tokens.tolist().index(token) + 1
        assert entry[token] == (pytest.approx(plain[position, token].item(), abs=1e-4), rank)
        for place in range(3):
            assert entry[int(tokens[place])] == (pytest.approx(values[place].item(), abs=1e-4), place + 1)
        assert len(entry) == 3 + (rank > 3)


def test_seeds_repeat_and_samples_differ(generation_engine: Engines) -> None:
    engine = generation_engine()
    first, again, other = run(engine, request(seed=1, num_samples=3), request(seed=1, num_samples=3), request(seed=2))
    same(first, again)
    assert len({tuple(tokens) for tokens in [*first.tokens, *other.tokens]}) == 4
    assert (
        run(engine, request(num_samples=2, max_tokens=30))[0].tokens
        != run(engine, request(max_tokens=30))[0].tokens * 2
    )


def test_several_samples_prefill_their_prompt_once(generation_engine: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, calls = generation_engine(), []
    original = engine._decoder.prefill
    monkeypatch.setattr(engine._decoder, "prefill", lambda *a: calls.append(len(a[0])) or original(*a))
    run(engine, request(num_samples=8))
    assert calls == [1]


def test_a_request_that_joins_gets_a_token_in_its_first_step(generation_engine: Engines) -> None:
    engine = generation_engine()
    engine.add(request(max_tokens=50, temperature=0))
    for _ in range(5):
        engine.step()
    ticket = engine.add(request(20, 50, max_tokens=1))
    assert [finished for finished, _ in engine.step()] == [ticket]


def test_cancel_in_queue_and_in_the_middle(generation_engine: Engines) -> None:
    engine = generation_engine(max_rows=2)
    alone = run(generation_engine(), request(9, seed=5, max_tokens=20))[0]
    first, kept, queued = (engine.add(ask) for ask in (request(30), request(9, seed=5, max_tokens=20), request()))
    engine.step()
    engine.cancel(first)
    engine.cancel(queued)
    engine.cancel(999)
    results: dict[int, Any] = {}
    while engine.pending:
        results |= dict(engine.step())
    assert results.keys() == {kept}
    same(results[kept], alone)


def test_step_without_work_is_empty(generation_engine: Engines) -> None:
    assert generation_engine().step() == []


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("end", ["finish", "cancel"])
def test_a_request_leaves_nothing_to_the_garbage_collector(
    generation_engine: Engines, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """A server makes few full collections, and meanwhile a request's keys and values would stay in memory."""
    engine = generation_engine(max_rows=8)
    alive: list[weakref.ref[Any]] = []
    for made in (Job, RowCache):
        original = made.__init__

        def noted(self: Any, *args: Any, original: Any = original, **fields: Any) -> None:
            original(self, *args, **fields)
            alive.append(weakref.ref(self))

        monkeypatch.setattr(made, "__init__", noted)
    ticket = engine.add(request(num_samples=2))
    engine.step()
    if end == "cancel":
        engine.cancel(ticket)
    while engine.pending:
        engine.step()
    assert len(alive) == 2
    assert [one() for one in alive] == [None, None]


def test_adapters_side_by_side_and_swapped_while_they_run(
    generation_engine: Engines, training_engine: Trainers, tmp_path: Path
) -> None:
    trainer = training_engine()
    folders = [publish(trainer, tmp_path / str(seed), seed) for seed in (1, 2)]

    def alone(folder: Path | None) -> Generation:
        engine = generation_engine()
        if folder:
            engine.load_adapter("a", folder)
        return run(engine, request(8, temperature=0, max_tokens=30, adapter="a" if folder else None))[0]

    wanted = [alone(folders[0]), alone(None), alone(folders[1])]
    assert len({str(result.tokens) for result in wanted}) == 3
    engine, results = generation_engine(), {}
    engine.load_adapter("a", folders[0])
    tickets = [engine.add(request(8, temperature=0, max_tokens=30, adapter=name)) for name in ("a", None)]
    for _ in range(3):
        results |= dict(engine.step())
    engine.load_adapter("a", folders[1])
    tickets.append(engine.add(request(8, temperature=0, max_tokens=30, adapter="a")))
    engine.unload_adapter("a")
    engine.unload_adapter("never there")
    while engine.pending:
        results |= dict(engine.step())
    for ticket, result in zip(tickets, wanted, strict=True):
        same(results[ticket], result)
    with pytest.raises(InvalidInputError, match="adapter: 'a' is not loaded"):
        engine.add(request(adapter="a"))


def test_stop_token_ids_end_a_sequence_and_are_part_of_it(generation_engine: Engines) -> None:
    (free,) = run(generation_engine(), request(temperature=0))
    stop = free.tokens[0][4]
    (got,) = run(generation_engine(), request(temperature=0, stop=[stop]))
    first = free.tokens[0].index(stop)
    assert got.tokens == [free.tokens[0][: first + 1]]
    assert got.finish_reasons == ["stop"]
    assert got.texts == run(generation_engine(), request(temperature=0, max_tokens=first))[0].texts or first == 0


def test_stop_strings_end_where_they_are_complete(generation_engine: Engines, model_folder: Folder) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder("llama"))
    ask = request(seed=8, max_tokens=40)
    (free,) = run(generation_engine(), ask)
    text = free.texts[0]
    assert text == tokenizer.decode(free.tokens[0], skip_special_tokens=True)
    at = next(
        i for i in range(10, len(text) - 3) if "\ufffd" not in text[i : i + 4] and text.find(text[i : i + 3]) == i
    )
    (got,) = run(generation_engine(), request(seed=8, max_tokens=40, stop=["never in there", text[at : at + 3]]))
    assert got.finish_reasons == ["stop"]
    assert got.texts == [text[:at]]
    assert got.tokens[0] == free.tokens[0][: len(got.tokens[0])]
    assert tokenizer.decode(got.tokens[0][:-1]).find(text[at : at + 3]) == -1


def test_a_special_token_as_stop_string(generation_engine: Engines) -> None:
    engine = generation_engine()
    engine._eos = frozenset()
    results = run(engine, request(max_tokens=90, seed=1, num_samples=40, stop=["<|end|>"], temperature=2.0))[0]
    ended = [tokens for tokens in results.tokens if 0 in tokens]
    assert ended
    assert all(tokens.index(0) == len(tokens) - 1 for tokens in ended)


def test_the_context_ends_a_sequence(generation_engine: Engines) -> None:
    engine = generation_engine()
    engine._eos = frozenset()
    (got,) = run(engine, request(90, max_tokens=None))
    assert len(got.tokens[0]) == engine.max_seq_len - 90
    assert got.finish_reasons == ["length"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (GenerationRequest([], GREEDY), "prompt: expected 1 to 95 tokens, got 0"),
        (GenerationRequest([1] * 96, GREEDY), "prompt: expected 1 to 95 tokens, got 96"),
        (GenerationRequest([1, 300], GREEDY), r"prompt\[1\]: token id 300 is outside the vocabulary of 300"),
        (GenerationRequest([1, -1], GREEDY), r"prompt\[1\]: token id -1"),
        (GenerationRequest([1], GREEDY, num_samples=0), "num_samples"),
        (GenerationRequest([1], GREEDY, prompt_logprobs=-1), "prompt_logprobs"),
        (GenerationRequest([1], GREEDY, adapter="x"), r"adapter: 'x' is not loaded \(loaded: \[\]\)"),
    ],
)
def test_refusals(generation_engine: Engines, wrong: GenerationRequest, says: str) -> None:
    engine = generation_engine()
    with pytest.raises(InvalidInputError, match=says):
        engine.add(wrong)
    assert engine.pending == 0


def test_max_rows_must_be_positive(generation_engine: Engines) -> None:
    with pytest.raises(InvalidInputError, match="max_rows"):
        generation_engine(max_rows=0)


def poison(folder: Path, target: Path) -> Path:
    """A copy of an adapter with one value that is not a number."""
    target.mkdir()
    tensors = load_file(folder / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, target / "adapter_model.safetensors")
    (target / "adapter_config.json").write_text((folder / "adapter_config.json").read_text())
    return target


def test_scores_that_are_not_finite_fail_only_their_requests(
    generation_engine: Engines, training_engine: Trainers, tmp_path: Path
) -> None:
    engine = generation_engine()
    engine.load_adapter("bad", poison(publish(training_engine(), tmp_path / "a"), tmp_path / "b"))
    bad, good = engine.add(request(adapter="bad")), engine.add(request(seed=3))
    results: dict[int, Any] = {}
    while engine.pending:
        results |= dict(engine.step())
    assert isinstance(results[bad], RuntimeError)
    assert "bad gave scores that are not finite" in str(results[bad])
    same(results[good], run(generation_engine(), request(seed=3))[0])


@pytest.mark.parametrize("when", ["prefill", "decode"])
def test_an_error_in_a_batch_ends_its_requests_and_no_others(
    generation_engine: Engines, training_engine: Trainers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    engine = generation_engine()
    engine.load_adapter("a", publish(training_engine(), tmp_path / "a"))
    original = getattr(engine._decoder, when)

    def failing(*args: Any) -> Any:
        if args[-1] is engine._adapters["a"]:
            raise MemoryError("no room")
        return original(*args)

    monkeypatch.setattr(engine._decoder, when, failing)
    tickets = [engine.add(request(seed=3, adapter=name)) for name in ("a", None, "a")]
    results: dict[int, Any] = {}
    while engine.pending:
        results |= dict(engine.step())
    assert [type(results[ticket]) for ticket in tickets] == [MemoryError, Generation, MemoryError]
    monkeypatch.undo()
    same(run(engine, request(seed=3))[0], results[tickets[1]])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"use_dora": True}, "only plain LoRA is supported, it has use_dora=true"),
        ({"modules_to_save": ["lm_head"]}, r'it has modules_to_save=\["lm_head"\]'),
        ({"init_lora_weights": "pissa"}, 'it has init_lora_weights="pissa"'),  # it changed the base model, too
        ({"alora_invocation_tokens": [5]}, r"it has alora_invocation_tokens=\[5\]"),
        ({"r": None}, "describes no LoRA adapter"),
    ],
)
def test_adapters_that_are_more_than_plain_lora_are_refused(
    generation_engine: Engines, training_engine: Trainers, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    folder = publish(training_engine(), tmp_path)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | change))
    with pytest.raises(RuntimeError, match=says):
        generation_engine().load_adapter("x", folder)


def test_adapters_of_other_models_are_refused(
    generation_engine: Engines, training_engine: Trainers, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="there is no folder"):
        generation_engine().load_adapter("x", tmp_path / "nowhere")
    folder = publish(training_engine("opt"), tmp_path / "opt")
    with pytest.raises(RuntimeError, match=r"has no linear layer model\.decoder"):
        generation_engine().load_adapter("x", folder)
    tensors = load_file(publish(training_engine(), tmp_path / "a") / "adapter_model.safetensors")
    key = next(name for name in tensors if "lora_B" in name)
    for wrong, says in (
        ({key: tensors[key][:-1].clone()}, "lm_head of .* maps 32 to 300, the adapter's pair 32 to 299"),
        ({"x": torch.ones(1)}, "x belongs to no LoRA pair"),
    ):
        save_file(tensors | wrong, tmp_path / "a" / "adapter_model.safetensors")
        with pytest.raises(RuntimeError, match=says):
            generation_engine().load_adapter("x", tmp_path / "a")


def test_rank_scaling_of_a_foreign_adapter(
    generation_engine: Engines, training_engine: Trainers, tmp_path: Path
) -> None:
    trainer = training_engine()
    trainer.init_adapter(AdapterConfig(lora_rank=4, seed=1))
    folder = publish(trainer, tmp_path)
    config = json.loads((folder / "adapter_config.json").read_text())
    engine = generation_engine()
    for rslora, scaling in ((False, 8.0), (True, 16.0)):
        (folder / "adapter_config.json").write_text(json.dumps(config | {"use_rslora": rslora}))
        engine.load_adapter("x", folder)
        assert {pair.scaling for pair in engine._adapters["x"].pairs.values()} == {scaling}


def test_it_is_a_generation_engine(generation_engine: Engines, model_folder: Folder) -> None:
    engine: GenerationEngine = generation_engine()
    assert engine.max_seq_len == 96
    assert generation_engine().tokenizer_path == generation_engine().base_model == model_folder("llama")


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda *_: torch.ones(2, 32), "it gives other numbers"),
        (lambda *_: torch.ones(2)[5], "it fails .index 5 is out"),
    ],
)
def test_a_model_that_differs_token_by_token_is_refused(
    generation_engine: Engines, monkeypatch: pytest.MonkeyPatch, broken: Any, says: str
) -> None:
    monkeypatch.setattr(Decoder, "_probed", broken)
    with pytest.raises(InvalidInputError, match=f"LlamaForCausalLM cannot be sampled from, token by token {says}"):
        generation_engine()


def test_texts_and_conversations_become_tokens(generation_engine: Engines) -> None:
    engine = generation_engine()
    tokenizer = AutoTokenizer.from_pretrained(engine.tokenizer_path)
    assert engine.encode("a b") == tokenizer.encode("a b")
    with pytest.raises(InvalidInputError, match=r"prompt: the tokenizer of .* has no chat template; give a text"):
        engine.encode([{"role": "user", "content": "a"}])
    engine._tokenizer.chat_template = "{% for one in messages %}{{ one.content }} {% endfor %}"
    assert engine.encode([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]) == tokenizer.encode(
        "a b "
    )
    engine._tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InvalidInputError, match=r"prompt: the chat template refuses these messages .roles must"):
        engine.encode([{"role": "user", "content": "a"}])
