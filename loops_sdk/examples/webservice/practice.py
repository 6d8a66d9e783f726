"""One optimizer step on what users said, and on what the model could do before. It does not know when to take one."""

from __future__ import annotations

from typing import Any

from feedback import Lesson

from loops_sdk import AdamParams, Datum, TrainingClient

# A model that is shown one sentence again and again forgets all others. So each step rehearses, too, what the model
# answered to these before anybody taught it anything. Put the everyday questions of your own service here.
HABITS = (
    *("Hello!", "Thank you!", "What is 7 + 5?", "What is the opposite of hot?", "What does a cow say?"),
    *("What comes after August?", "What is a chair made of?", "Tell me a story."),
)


class Practice:
    """Takes the steps of one trainer, each with all of `habits` beside the lessons."""

    def __init__(self, training: TrainingClient, learning_rate: float) -> None:
        self.habits: list[Datum] = []
        self._training, self._adam = training, AdamParams(learning_rate=learning_rate)

    async def step(self, lessons: list[Lesson]) -> tuple[float, float | None]:
        """Its number, and the loss of the corrections in nats per token, `None` where there are none."""
        corrections = [lesson.datum for lesson in lessons if lesson.loss_fn == "cross_entropy"]
        thumbs = [lesson.datum for lesson in lessons if lesson.loss_fn == "ppo"]
        passed = await self._training.forward_backward_async([*corrections, *self.habits])
        rated = await self._training.forward_backward_async(thumbs, "ppo") if thumbs else None
        stepped = await self._training.optim_step_async(self._adam)
        output = await passed
        if rated is not None:
            await rated
        loss = _per_token(corrections, output.loss_fn_outputs) if corrections else None
        return (await stepped).metrics["step"], loss


def _per_token(data: list[Datum], outputs: list[dict[str, Any]]) -> float:
    """Of the first outputs, those of `data`: mean over the tokens that are learned."""
    count = sum(int((datum.loss_fn_inputs["target_tokens"].data != -100).sum()) for datum in data)
    return -sum(float(outputs[index]["logprobs"].data.sum()) for index in range(len(data))) / count
