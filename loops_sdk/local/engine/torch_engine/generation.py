"""The generation engine on torch: a queue in front, one batch per adapter behind, and a step that moves both.

It decides who gets a row when, and what a failure takes with it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache

from loops_sdk.errors import InvalidInputError
from loops_sdk.local.engine import prompts
from loops_sdk.local.engine.protocol import Generation, GenerationRequest
from loops_sdk.local.engine.torch_engine.batching import plan
from loops_sdk.local.engine.torch_engine.decoder import Decoder
from loops_sdk.local.engine.torch_engine.kv_cache import RowCache
from loops_sdk.local.engine.torch_engine.models import BaseModel
from loops_sdk.local.engine.torch_engine.requests import Continuation, Job
from loops_sdk.local.engine.torch_engine.sampling import sample
from loops_sdk.local.engine.torch_engine.served import BASE, ServedAdapter, read_adapter

__all__ = ["TorchGenerationEngine"]

#: Padded prompt tokens of one pass.
_PREFILL_BUDGET = {"cpu": 1024, "cuda": 32768}

Finished = list[tuple[int, Generation | Exception]]
_Start = tuple[Job, list[Continuation]]


@attrs.define(eq=False)
class _Batch:
    """The rows that run through one adapter, and their keys and values, row by row."""

    adapter: ServedAdapter
    rows: list[Continuation] = attrs.field(factory=list)
    cache: RowCache = attrs.field(factory=RowCache)

    def drop(self, row: int) -> None:
        self.cache.drop(row)
        self.rows[row] = self.rows[-1]
        self.rows.pop()


class TorchGenerationEngine:
    """A `GenerationEngine` over a transformers model.

    Args:
        base: the model; the engine hangs hooks into it.
        max_rows: continuations that are decoded together; more wait in the order in which they came.
    """

    def __init__(self, base: BaseModel, *, max_rows: int) -> None:
        if max_rows < 1:
            raise InvalidInputError(f"max_rows: expected a whole number >= 1, got {max_rows!r}")
        self._base, self._max_rows = base, max_rows
        self._decoder = Decoder(base)
        self._tokenizer = tokenizer = _tokenizer(base)
        # The Rust tokenizer itself: decoding happens for every token of a request with stop strings.
        self._text = getattr(tokenizer, "backend_tokenizer", None) or tokenizer
        self._special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
        self._eos = _end_tokens(base, tokenizer)
        self._adapters: dict[str, ServedAdapter] = {}
        self._queue: deque[Job] = deque()
        self._jobs: dict[int, Job] = {}
        self._batches: list[_Batch] = []
        self._tickets = 0

    @property
    def base_model(self) -> str:
        """The base model as it was asked for."""
        return self._base.name

    @property
    def tokenizer_path(self) -> str:
        """A folder or hub id for `AutoTokenizer.from_pretrained`."""
        return self._base.path

    @property
    def max_seq_len(self) -> int:
        """Longest prompt plus continuation, in tokens."""
        return self._base.limits.max_seq_len

    @property
    def pending(self) -> int:
        """Number of requests that have not finished."""
        return len(self._jobs)

    def encode(self, prompt: str | Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of a text, or of a conversation that the model is to answer; see the protocol.

        Raises:
            InvalidInputError: messages, and there is no chat template or it refuses them.
        """
        if isinstance(prompt, str):
            return list(self._tokenizer.encode(prompt))
        if not self._tokenizer.chat_template:
            raise InvalidInputError(f"prompt: the tokenizer of {self._base.name!r} has no chat template; give a text")
        messages = [dict(message) for message in prompt]
        try:
            tokens: Any = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        except TemplateError as error:
            raise InvalidInputError(f"prompt: the chat template refuses these messages ({error})") from error
        return list(tokens)

    def load_adapter(self, name: str, folder: Path) -> None:
        """Make the PEFT folder available under `name`. Requests that run keep what they started with.

        Raises:
            RuntimeError: the folder does not fit this base model.
        """
        self._adapters[name] = read_adapter(name, folder, self._base)

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter; its weights go with the last request that uses them. Unknown names are ignored."""
        self._adapters.pop(name, None)

    def check(self, request: GenerationRequest) -> None:
        """Refuse what cannot be sampled.

        Raises:
            InvalidInputError: naming the argument.
        """
        prompts.check(
            request,
            max_seq_len=self.max_seq_len,
            vocab_size=self._base.limits.vocab_size,
            adapters=self._adapters,
        )

    def add(self, request: GenerationRequest) -> int:
        """Queue a request; the number is its ticket.

        Raises:
            InvalidInputError: what `check` refuses.
        """
        self.check(request)
        self._tickets += 1
        adapter = BASE if request.adapter is None else self._adapters[request.adapter]
        job = Job(self._tickets, request, adapter)
        self._jobs[job.ticket] = job
        self._queue.append(job)
        return job.ticket

    def cancel(self, ticket: int) -> None:
        """Drop a request, also in the middle; unknown tickets are ignored."""
        job = self._jobs.pop(ticket, None)
        if job is not None:
            self._forget([job])

    def _forget(self, jobs: Iterable[Job]) -> None:
        gone = set(jobs)
        self._queue = deque(job for job in self._queue if job not in gone)
        for batch in self._batches:
            for row in reversed(range(len(batch.rows))):
                if batch.rows[row].job in gone:
                    batch.drop(row)
        self._batches = [batch for batch in self._batches if batch.rows]
        for job in gone:
            job.end()

    def step(self) -> Finished:
        """Decode one token for everything that runs, prefill what is new as far as rows are free, return what finished.

        Every continuation gains exactly one token. An error in a batch ends the requests in it and no others.
        """
        finished: Finished = []
        for batch in list(self._batches):
            finished += self._guarded({row.job for row in batch.rows}, partial(self._decode, batch))
        for adapter, starts in self._admit():
            for order in plan([len(job.request.prompt) for job, _ in starts], _PREFILL_BUDGET[self._base.device.type]):
                group = [starts[index] for index in order]
                finished += self._guarded({job for job, _ in group}, partial(self._prefill, adapter, group))
        self._batches = [batch for batch in self._batches if batch.rows]
        return finished

    def _guarded(self, jobs: set[Job], work: Callable[[], Finished]) -> Finished:
        try:
            return work()
        except Exception as error:
            return self._fail(jobs, error)

    def _fail(self, jobs: Iterable[Job], error: Exception) -> Finished:
        failed = [self._jobs.pop(job.ticket) for job in _in_order(jobs) if job.ticket in self._jobs]
        self._forget(failed)
        return [(job.ticket, error) for job in failed]

    def _admit(self) -> Iterable[tuple[ServedAdapter, list[_Start]]]:
        """Start what rows are free for, in order. A request waits until all its continuations fit, if they ever can."""
        free = self._max_rows - sum(len(batch.rows) for batch in self._batches)
        starts: dict[ServedAdapter, list[_Start]] = {}
        while self._queue and free >= min(self._queue[0].waiting, self._max_rows):
            job = self._queue.popleft()
            rows = job.start(min(job.waiting, free), self.max_seq_len, self._eos, self._decode_text, self._special)
            starts.setdefault(job.adapter, []).append((job, rows))
            free -= len(rows)
            if job.waiting:
                self._queue.appendleft(job)
        return starts.items()

    def _prefill(self, adapter: ServedAdapter, group: list[_Start]) -> Finished:
        prompts = [job.request.prompt for job, _ in group]
        hidden, prefilled = self._decoder.prefill(prompts, adapter)
        for index, (job, _) in enumerate(group):
            if job.request.prompt_logprobs is not None and job.prompt_logprobs is None:
                top, prompt = job.request.prompt_logprobs, job.request.prompt
                job.prompt_logprobs = self._decoder.prompt_logprobs(hidden[index], prompt, top, adapter)
        last = torch.stack([hidden[index, len(prompt) - 1] for index, prompt in enumerate(prompts)])
        repeats = torch.tensor([len(rows) for _, rows in group], device=last.device)
        scores = self._decoder.scores(last, adapter).repeat_interleave(repeats, 0)
        failed = self._push([row for _, rows in group for row in rows], scores, adapter)
        self._join(adapter, prefilled, group)
        return failed + self._collect({job for job, _ in group})

    def _join(self, adapter: ServedAdapter, prefilled: DynamicCache, group: list[_Start]) -> None:
        runs = [[row for row in rows if row.reason is None and job.ticket in self._jobs] for job, rows in group]
        joining = [(index, len(group[index][0].request.prompt), len(rows)) for index, rows in enumerate(runs) if rows]
        if not joining:
            return
        batch = next((batch for batch in self._batches if batch.adapter is adapter), None)
        if batch is None:
            batch = _Batch(adapter)
            self._batches.append(batch)
        batch.cache.join(prefilled, joining)
        batch.rows += [row for rows in runs for row in rows]

    def _decode(self, batch: _Batch) -> Finished:
        tokens, lengths = [row.tokens[-1] for row in batch.rows], [row.length - 1 for row in batch.rows]
        scores = self._decoder.decode(tokens, lengths, batch.cache, batch.adapter)
        rows = list(batch.rows)
        failed = self._push(rows, scores, batch.adapter)
        for index in reversed(range(len(batch.rows))):
            if batch.rows[index].reason is not None:
                batch.drop(index)
        return failed + self._collect({row.job for row in rows if row.reason is not None})

    def _push(self, rows: Sequence[Continuation], scores: Tensor, adapter: ServedAdapter) -> Finished:
        """Sample for every row. Scores that are not finite fail the requests they belong to."""
        broken = set()
        for row, choice in zip(
            rows, sample(scores, [(row.job.request.params, row.stream) for row in rows]), strict=True
        ):
            if math.isnan(choice.logprob):
                broken.add(row.job)
            else:
                row.push(choice)
        return self._fail(broken, RuntimeError(f"{adapter.name} gave scores that are not finite")) if broken else []

    def _collect(self, jobs: Iterable[Job]) -> Finished:
        done = [job for job in _in_order(jobs) if job.done and job.ticket in self._jobs]
        return [(job.ticket, self._jobs.pop(job.ticket).result(self._decode_text)) for job in done]

    def _decode_text(self, tokens: Sequence[int]) -> str:
        return str(self._text.decode(list(tokens), skip_special_tokens=True))


def _in_order(jobs: Iterable[Job]) -> list[Job]:
    return sorted(jobs, key=lambda job: job.ticket)


def _tokenizer(base: BaseModel) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base.path, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise InvalidInputError(f"base_model: {base.name!r} has no tokenizer that can be loaded ({error})") from error
    return tokenizer


def _end_tokens(base: BaseModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every token that the model's folder calls an end of text."""
    stated = [tokenizer.eos_token_id, base.model.config.get_text_config().eos_token_id]
    if base.model.generation_config is not None:
        stated.append(base.model.generation_config.eos_token_id)
    return frozenset(
        token for entry in stated for token in (entry if isinstance(entry, list) else [entry]) if token is not None
    )
