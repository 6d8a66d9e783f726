"""Answers that are read while they are sampled. It knows neither training nor HTTP.

A sampler answers whole requests, so an answer is streamed by many short ones, each of which continues what those before
it brought. All of them go to the policy that the answer began with, whatever has been published meanwhile.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

from loops_sdk import InvalidInputError, Renderer, Rollout, SamplingClient, SamplingParams

PIECE = 4  # tokens per request
MOST_TOKENS = 160  # per answer


@dataclass(frozen=True)
class Policy:
    """Who answers: a client of one published adapter, and the number of optimizer steps in it."""

    client: SamplingClient
    version: int


class Answer:
    """One answer: what was asked, who answers, and all that was sampled, which is what a thumb is about.

    `versions` are the policy versions that took part: one, unless the sampler serves nothing but the newest weights.
    """

    def __init__(self, policy: Policy, renderer: Renderer, question: str, context: int | None) -> None:
        prompt = renderer.prompt([{"role": "user", "content": question}])
        if context is not None and prompt.length >= context:
            text = f"question: it has {prompt.length} tokens, the model reads at most {context - 1}; ask a shorter one"
            raise InvalidInputError(text)
        self.id = uuid.uuid4().hex
        self.policy, self.question = policy, question
        self.rollout = Rollout(prompt)
        self.versions: list[int | None] = []
        self._renderer = renderer
        self._most = MOST_TOKENS if context is None else min(MOST_TOKENS, context - prompt.length)
        self._tokens: list[int] = []

    @property
    def text(self) -> str:
        """What has been said so far."""
        return self._renderer.message(self._tokens)["content"]

    async def pieces(self) -> AsyncIterator[str]:
        """The answer as it is sampled, some words at a time."""
        said = ""
        while True:
            ended = await self._go_on()
            text = self.text if ended else self.text.rstrip("\ufffd")  # a character of which bytes are still to come
            yield text[len(said) :]
            if ended:
                return
            said = text

    async def _go_on(self) -> bool:
        """Sample the next piece; says whether it was the last."""
        params = SamplingParams(max_tokens=min(PIECE, self._most - len(self._tokens)), temperature=0.0)
        result = await self.policy.client.sample_async(
            self.rollout.prompt, sampling_params=params, affinity_key=self.id
        )
        (sequence,) = result.sequences
        self.rollout.sampled(sequence)
        self._tokens += sequence.tokens
        if result.policy_version not in self.versions:
            self.versions.append(result.policy_version)
        return sequence.stop_reason != "length" or len(self._tokens) >= self._most
