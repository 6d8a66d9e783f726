"""One `sample_async` after another, at no delay: 64 tokens with their log-probabilities."""

from __future__ import annotations

from _contest import Contest, Figures, Goal, Meter, Setting
from _mock import Mock
from _samplers import PROMPT, SAMPLERS, TOKENS, Sample, contestants


async def one_after_another(setting: Setting, sample: Sample) -> Figures:
    """The first few, with their imports and connections, do not count."""
    samples = setting.size(1000, 20)
    for _ in range(10):
        await sample()
    with Meter() as meter:
        for _ in range(samples):
            await sample()
    return {**meter.figures, "rate": samples / meter.figures["wall_s"]}


if __name__ == "__main__":
    Contest(
        name="sample-seq",
        about=__doc__,
        contestants=contestants(one_after_another, *SAMPLERS),
        goals=(Goal("cpu_s", 1.3),),
        server=lambda case: Mock(prompt=len(PROMPT), tokens=TOKENS).serving(),
    ).main()
