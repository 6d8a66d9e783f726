"""Kill -9 of a sampler under load: every sample comes, from the adapter that was published last."""

from __future__ import annotations

import asyncio
from pathlib import Path

from loops_sdk import SampleResult, SamplingParams

from .conftest import KILLS, children, deployment, train, until

_AT_ONCE = 32


async def test_samples_under_way_are_asked_for_again_and_come_from_what_was_published_last(
    tmp_path: Path, figures: list[str]
) -> None:
    kills = max(2, KILLS // 4)
    async with deployment(tmp_path) as (_, service):
        training = await service.create_lora_training_client_async("loops/tiny", rank=8, seed=11, with_sampler=True)
        await train(training, 2)
        sampling = await (await training.save_weights_and_get_sampling_client_async("two"))
        params = SamplingParams(max_tokens=48, temperature=1.0, seed=3)

        async def sample(prompt: int) -> SampleResult:
            return await sampling.sample_async([50 + prompt, 51, 52], sampling_params=params)

        calm = [await sample(prompt) for prompt in range(_AT_ONCE)]
        for _ in range(kills):
            under_way = [asyncio.ensure_future(sample(prompt)) for prompt in range(_AT_ONCE)]
            await asyncio.wait(under_way, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
            (process,) = children("sampler")
            process.kill()
            answered = await asyncio.gather(*under_way)
            assert [one.sequences[0].tokens for one in answered] == [one.sequences[0].tokens for one in calm]
            assert {one.policy_version for one in answered} == {2}
            await until(lambda: children("sampler"))
    figures.append(f"{kills} kills of the sampler under {_AT_ONCE} samples: all answered alike")
