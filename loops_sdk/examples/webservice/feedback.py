"""What users say about answers, as lessons to be trained on. It knows neither the trainer nor HTTP.

A correction is learned by cross-entropy. A thumb is a reward of 1 or -1 for what was sampled, learned by PPO, whose
clipping lets it move the probability of a token by a fifth and then no further.
"""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Literal

from answering import Answer

from loops_sdk import Datum, InvalidInputError, Renderer

REMEMBERED = 1_000  # answers that can still be rated, and lessons that are repeated
MOST_PENDING = 256  # lessons that wait to be learned; more are refused


class Full(Exception):
    """So much waits to be learned that no more is taken."""


@dataclass(frozen=True)
class Lesson:
    datum: Datum
    loss_fn: Literal["cross_entropy", "ppo"]


class Feedback:
    """Lessons that wait (`pending`) and those that were learned."""

    def __init__(self, renderer: Renderer, context: int | None) -> None:
        self.pending: list[Lesson] = []
        self.counts = {"answers": 0, "thumbs": 0, "corrections": 0}
        self._renderer, self._context = renderer, context
        self._learned: deque[Lesson] = deque(maxlen=REMEMBERED)
        self._answers: OrderedDict[str, tuple[Answer, set[str]]] = OrderedDict()  # with the kinds of feedback they have

    def remember(self, answer: Answer) -> None:
        """From now on this answer, heard to its end, can be rated and corrected, once each."""
        self.counts["answers"] += 1
        self._answers[answer.id] = answer, set()
        if len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)

    def rate(self, answer_id: str, up: bool) -> None:
        """A thumb. Raises `Full`, and `InvalidInputError` where there is no such answer or it has its thumb."""
        answer, given = self._rated(answer_id, "thumb")
        self._add(Lesson(answer.rollout.datum(1.0 if up else -1.0), "ppo"), "thumbs")
        given.add("thumb")

    def correct(self, answer_id: str, text: str) -> None:
        """What the answer should have been. Raises as `rate` does, and where the model cannot read that much."""
        answer, given = self._rated(answer_id, "correction")
        self._add(self.correction(answer.question, text), "corrections")
        given.add("correction")

    def correction(self, question: str, text: str) -> Lesson:
        """The lesson that this is the answer to that."""
        talk = [{"role": "user", "content": question}, {"role": "assistant", "content": text}]
        datum = self._renderer.datum(talk, train_on="last")
        if self._context is not None and datum.model_input.length > self._context:
            raise InvalidInputError(
                f"correction: with its question it has more than the {self._context} tokens of the model"
            )
        return Lesson(datum, "cross_entropy")

    def batch(self, most: int) -> tuple[list[Lesson], list[Lesson]]:
        """The lessons that have waited longest, and earlier ones, drawn anew, in the room that is left."""
        new = self.pending[:most]
        return new, random.sample(list(self._learned), min(len(self._learned), most - len(new)))

    def learned(self, lessons: list[Lesson]) -> None:
        """These, the first of those that waited, wait no more."""
        del self.pending[: len(lessons)]
        self._learned.extend(lessons)

    def _rated(self, answer_id: str, kind: str) -> tuple[Answer, set[str]]:
        """The answer and the feedback it has, which this kind is not among."""
        if len(self.pending) >= MOST_PENDING:
            raise Full(f"{MOST_PENDING} lessons wait to be learned already; try again later")
        if answer_id not in self._answers:
            raise InvalidInputError(
                f"answer_id: {answer_id!r} is none of the last {REMEMBERED} answers that were finished"
            )
        answer, given = self._answers[answer_id]
        if kind in given:
            raise InvalidInputError(f"answer_id: {answer_id!r} has its {kind} already")
        return answer, given

    def _add(self, lesson: Lesson, kind: str) -> None:
        self.pending.append(lesson)
        self.counts[kind] += 1
