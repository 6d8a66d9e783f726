"""A request of the original as a value: public there, never sent here. The clients take its parts as arguments."""

from __future__ import annotations

from typing import Literal

import attrs

from loops_sdk_sync.tinker.types._model import StrictModel
from loops_sdk_sync.tinker.types.model_input import ModelInput
from loops_sdk_sync.tinker.types.sampling_params import SamplingParams
from loops_sdk_sync.tinker.types.tensor_data import TensorData

__all__ = ["SampleRequest"]


class SampleRequest(StrictModel):
    """What to sample.

    Args:
        num_samples: number of continuations.
        prompt: what they continue.
        sampling_params: how to sample.
        base_model: name of the base model, when it is that which samples.
        model_path: checkpoint that samples.
        sampling_session_id: sampler that knows its model.
        seq_id: number of the request in that sampler's session.
        prompt_logprobs: whether log-probabilities of the prompt are wanted.
        topk_prompt_logprobs: how many most probable tokens per position of the prompt are wanted.
        topk_sample_logprobs: how many most probable tokens per new position are wanted.
        target_prompt_logprobs: tokens whose log-probabilities at the positions of the prompt are wanted.
        prompt_alt_tokens_k: how many other tokens per position of the prompt are wanted.
        prompt_logprobs_last_n: only so many last positions of the prompt; `None` means all.
        record_stability_info: whether the server notes down what the loss ``stable_reinforce`` needs.
        type: ``"sample"``.
    """

    num_samples: int = 1
    prompt: ModelInput = attrs.field()
    sampling_params: SamplingParams = attrs.field()
    base_model: str | None = None
    model_path: str | None = None
    sampling_session_id: str | None = None
    seq_id: int | None = None
    prompt_logprobs: bool | None = None
    topk_prompt_logprobs: int = 0
    topk_sample_logprobs: int = 0
    target_prompt_logprobs: TensorData | None = None
    prompt_alt_tokens_k: int = 0
    prompt_logprobs_last_n: int | None = None
    record_stability_info: bool | None = None
    type: Literal["sample"] = "sample"
