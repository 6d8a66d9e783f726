"""What is known of a request while it runs: its continuations, when each one ends, and the result once all have.

Knows tokens and text; no tensors and no batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal

import attrs

from loops_sdk.local.engine.protocol import Generation, GenerationRequest
from loops_sdk.local.engine.text import StopText
from loops_sdk.local.engine.torch_engine.sampling import Choice, Stream
from loops_sdk.local.engine.torch_engine.served import ServedAdapter

__all__ = ["Continuation", "Decode", "Job"]

Decode = Callable[[Sequence[int]], str]


@attrs.define(eq=False)
class Continuation:
    """One row of the batch: what has been sampled so far, and the rule that ends it.

    Attributes:
        job: the request it belongs to.
        stream: its random numbers.
        most: most new tokens.
        stop_tokens: token ids that end it.
        watch: looks for stop strings, `None` if there are none.
        reason: why it ended, `None` while it runs.
    """

    job: Job
    stream: Stream
    most: int
    stop_tokens: Collection[int]
    watch: StopText | None
    tokens: list[int] = attrs.field(factory=list)
    logprobs: list[float] = attrs.field(factory=list)
    reason: Literal["stop", "length"] | None = None

    @property
    def length(self) -> int:
        """Tokens of prompt and continuation."""
        return len(self.job.request.prompt) + len(self.tokens)

    def push(self, choice: Choice) -> None:
        """Take a sampled token and see whether it is the last."""
        self.tokens.append(choice.token)
        self.logprobs.append(choice.logprob)
        if choice.token in self.stop_tokens:
            self.reason = "stop"
            if self.watch is not None:
                self.watch.finish()
        elif self.watch is not None and self.watch.push(choice.token):
            self.reason = "stop"
        elif len(self.tokens) >= self.most:
            self.reason = "stop" if self.watch is not None and self.watch.finish() else "length"

    def text(self, decode: Decode) -> str:
        """The continuation without stop token and stop string."""
        if self.watch is not None:
            return self.watch.text
        ended = bool(self.tokens) and self.tokens[-1] in self.stop_tokens
        return decode(self.tokens[:-1] if ended else self.tokens)


@attrs.define(eq=False)
class Job:
    """A request and how far it has come.

    Attributes:
        ticket: its number.
        adapter: the weights it runs on from beginning to end, also if their name is loaded anew meanwhile.
        started: its continuations so far; the rest wait for free rows.
    """

    ticket: int
    request: GenerationRequest
    adapter: ServedAdapter
    started: list[Continuation] = attrs.field(factory=list)
    prompt_logprobs: list[dict[int, tuple[float, int]] | None] | None = None

    @property
    def waiting(self) -> int:
        """Continuations that have not started."""
        return self.request.num_samples - len(self.started)

    @property
    def done(self) -> bool:
        """Whether every continuation has ended."""
        return not self.waiting and all(row.reason is not None for row in self.started)

    def start(
        self, count: int, context: int, eos: Collection[int], decode: Decode, special: dict[str, int]
    ) -> list[Continuation]:
        """The next `count` continuations. `special` maps texts that are one special token to its id."""
        params = self.request.params
        room = context - len(self.request.prompt)
        most = room if params.max_tokens is None else min(room, params.max_tokens)
        stop_tokens = {*eos, *(special.get(stop, -1) if isinstance(stop, str) else stop for stop in params.stop)}
        texts = [stop for stop in params.stop if isinstance(stop, str)]
        rows = [
            Continuation(
                self, Stream(params.seed, index), most, stop_tokens, StopText(decode, texts) if texts else None
            )
            for index in range(len(self.started), len(self.started) + count)
        ]
        self.started += rows
        return rows

    def result(self, decode: Decode) -> Generation:
        """What came of it; only when `done`, and once."""
        rows = self.end()
        return Generation(
            tokens=[row.tokens for row in rows],
            logprobs=[row.logprobs for row in rows],
            texts=[row.text(decode) for row in rows],
            finish_reasons=[row.reason or "length" for row in rows],
            prompt_logprobs=self.prompt_logprobs,
        )

    def end(self) -> list[Continuation]:
        """Let go of the continuations, each of which holds the request in turn: without that cycle, all that a request
        took is free when its last row has left the batch, and not when the garbage collector comes by.
        """
        rows, self.started = self.started, []
        return rows
