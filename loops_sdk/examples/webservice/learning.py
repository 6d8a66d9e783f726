"""A policy that learns from those who use it: one task trains on feedback, publishes, and swaps. It knows no HTTP.

A new policy takes over by a single assignment. Answers that have begun keep theirs, the next one gets the new one;
nobody waits for it and nobody is dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any, Self

from answering import Answer, Policy
from feedback import Feedback, Lesson
from practice import HABITS, Practice

from loops_sdk import LoopsError, Renderer, TrainingClient

BATCH = 8  # lessons per round
LEAST_STEPS = 2  # of a round; a round of nothing but thumbs has no more
LEARNED = 0.2  # nats per token of the corrections: less, and the round is over
KEPT = 3600  # seconds that a published adapter is kept; the one in use is published anew before that
RETRY = 30.0  # seconds until training that failed is tried again
GRACE = 30.0  # seconds that the end may take


class Learner:
    """``async with Learner(training, renderer, ...) as learner`` learns from `learner.feedback` until the end.

    Args:
        steps: most optimizer steps per round of learning; a round ends when its corrections are learned.
        learning_rate: Adam's step size.
    """

    policy: Policy

    def __init__(self, training: TrainingClient, renderer: Renderer, *, steps: int, learning_rate: float) -> None:
        self.feedback = Feedback(renderer, training.get_info().max_seq_len)
        self._training, self._renderer = training, renderer
        self._steps, self._practice = steps, Practice(training, learning_rate)
        self._wake, self._closing = asyncio.Event(), False
        self._phase, self._trouble, self._published = "starting", "", 0
        self._losses: deque[dict[str, float]] = deque(maxlen=200)

    async def __aenter__(self) -> Self:
        await self._publish()
        for question in HABITS:
            answer = self.begin(question)
            text = "".join([piece async for piece in answer.pieces()])
            if text.strip():
                self._practice.habits.append(self.feedback.correction(question, text).datum)
        self._task = asyncio.create_task(self._learn(), name="learn from feedback")
        return self

    async def __aexit__(self, *_: object) -> None:
        """The step that runs is finished, and the state saved, from which `--resume` goes on."""
        self._closing = True
        self._wake.set()
        try:
            async with asyncio.timeout(GRACE):
                await self._task
                saved = await (await self._training.save_state_async("webservice"))
        except (LoopsError, TimeoutError) as error:
            print(f"the state was not saved: {error!r}", flush=True)
        else:
            print(f"{self.feedback.counts}, policy version {self.policy.version}; --resume {saved.path}", flush=True)

    def begin(self, question: str) -> Answer:
        """An answer by the policy of this moment, which has not spoken yet."""
        return Answer(self.policy, self._renderer, question, self._training.get_info().max_seq_len)

    def wake(self) -> None:
        """There is something to learn."""
        self._wake.set()

    @property
    def alive(self) -> bool:
        """Whether the task that learns is still there."""
        return not self._task.done()

    def status(self) -> dict[str, Any]:
        """What there is to see, as JSON will have it."""
        about = {"policy_version": self.policy.version, "phase": self._phase, "trouble": self._trouble}
        return {
            **about,
            "pending": len(self.feedback.pending),
            "counts": self.feedback.counts,
            "losses": list(self._losses),
        }

    # ------------------------------------------------------------------ the task

    async def _learn(self) -> None:
        while not self._closing:
            self._phase = "waiting for feedback"
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY if self._trouble else KEPT / 2):
                    await self._wake.wait()
            self._wake.clear()
            if not self._closing:
                await self._round()

    async def _round(self) -> None:
        """Train on what waits, if anything does, and publish."""
        new, old = self.feedback.batch(BATCH)
        try:
            if new:
                await self._train(new, old)
            await self._publish()
            self.feedback.learned(new)  # not before: whoever asks what waits wants to hear of it in an answer
            self._trouble = ""
        except LoopsError as error:  # the old policy goes on answering, and what was not learned waits
            self._trouble = str(error)
            print(f"training failed, and is tried again in {RETRY:.0f} s: {error}", flush=True)
        else:
            if self.feedback.pending:
                self._wake.set()

    async def _train(self, new: list[Lesson], old: list[Lesson]) -> None:
        first = last = None
        for step in range(1, self._steps + 1):
            self._phase = f"training, step {step} of at most {self._steps}"
            number, last = await self._practice.step([*new, *old])
            if last is not None:
                self._losses.append({"step": number, "loss": round(last, 4)})
            first = last if first is None else first
            if self._closing or (step >= LEAST_STEPS and (last is None or last < LEARNED)):
                break
        told = "" if first is None or last is None else f", loss of corrections {first:.2f} -> {last:.2f}"
        print(f"learned {len(new)} lessons in {step} steps{told}", flush=True)

    async def _publish(self) -> None:
        """Save the adapter under a name of its own, so that it answers as long as anybody needs it, and swap."""
        self._phase = "publishing"
        self._published += 1
        name = f"web-{self._published}"
        saved = await (await self._training.save_weights_for_sampler_async(name, ttl_seconds=KEPT))
        client = await self._training.create_sampling_client_async(saved.path)
        version = saved.policy_version
        self.policy = Policy(client, await self._training.policy_version_async() if version is None else version)
