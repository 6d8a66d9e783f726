"""`SamplingClient` of the namespace: samples from the base model, from a checkpoint, or from what a run publishes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Self

import loops_sdk
import loops_sdk_sync
import loops_sdk_sync.tinker.types as types
from loops_sdk import InvalidInputError, ProtocolError, SamplingParams, WeightsNotReadyError
from loops_sdk_sync._proxy import Proxy
from loops_sdk_sync.tinker._calls import awaited, refuse, refused
from loops_sdk_sync.tinker._conversion import from_result, to_input, to_params, without_first
from loops_sdk_sync.tinker.lib.public_interfaces.api_future import APIFuture

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["BackcompatSamplingClientFuture", "SamplingClient"]

#: The least that can be sampled.
_SCORE = SamplingParams(max_tokens=1, temperature=0.0)
_GONE_ON = (
    "compute_logprobs: this client is for the weights of policy version {version}, and its sampler, which shows the "
    "newest only, serves version {now}; for a reference that stays, use create_sampling_client of the ServiceClient "
    "with base_model or model_path"
)
_ONLY_ITS_OWN = "Loops reports the log-probabilities of prompt and sample, and the most probable tokens of the prompt"


class SamplingClient:
    """Samples. Made by `ServiceClient.create_sampling_client` and by `TrainingClient`; from any thread and event loop.

    It pickles, without its key, which the process that unpickles it takes from ``BASETEN_API_KEY``.
    """

    def __init__(self, client: loops_sdk_sync.SamplingClient, version: int | None = None) -> None:
        self._client = client
        self._version = version  # of the only weights that it should score with, where a sampler may have newer ones

    def __repr__(self) -> str:
        return f"<tinker.SamplingClient {self._client!r}>"

    def sample(
        self,
        prompt: types.ModelInput,
        num_samples: int,
        sampling_params: types.SamplingParams,
        include_prompt_logprobs: bool = False,
        topk_prompt_logprobs: int = 0,
        topk_sample_logprobs: int = 0,
        target_prompt_logprobs: types.TensorData | None = None,
        prompt_alt_tokens_k: int = 0,
        prompt_logprobs_last_n: int | None = None,
    ) -> APIFuture[types.SampleResponse]:
        """Sample continuations of a prompt.

        Args:
            prompt: what the model reads; at least one token.
            num_samples: number of continuations, >= 1.
            sampling_params: how to sample.
            include_prompt_logprobs: also report the log-probability of each token of the prompt.
            topk_prompt_logprobs: also report this many most probable tokens per position of the prompt.
            topk_sample_logprobs, target_prompt_logprobs, prompt_alt_tokens_k: not offered by Loops.
            prompt_logprobs_last_n: report those of the last `n` tokens of the prompt only, `None` for those before.

        Returns:
            The future of the continuations, with the log-probabilities of their tokens; a stop sequence is part of
            them.

        Raises:
            InvalidInputError: (a `ValueError`) an argument is wrong; nothing was sent.
            NotOfferedError: an argument that Loops has no counterpart of.
        """
        if topk_sample_logprobs or prompt_alt_tokens_k or target_prompt_logprobs is not None:
            named = "topk_sample_logprobs, target_prompt_logprobs, prompt_alt_tokens_k"
            refuse(named, f"{_ONLY_ITS_OWN}, no others; leave these arguments out")
        asked, params = to_input(prompt, "prompt"), to_params(sampling_params)
        first = _first_scored(asked.length, prompt_logprobs_last_n, include_prompt_logprobs)
        core = self._client._core

        async def sample() -> types.SampleResponse:
            result = await core.sample_async(asked, num_samples, params, include_prompt_logprobs, topk_prompt_logprobs)
            return from_result(result, first)

        return APIFuture.of("sample", self._client, sample)

    sample_async = awaited(sample)

    def compute_logprobs(
        self, prompt: types.ModelInput, prompt_logprobs_last_n: int | None = None
    ) -> APIFuture[list[float | None]]:
        """The log-probability of each token of the prompt given those before it, in nats; the first is `None`.

        Args:
            prompt: what the model reads. It must leave room for one more token in the model's context.
            prompt_logprobs_last_n: as in `sample`.

        Raises:
            InvalidInputError: (a `ValueError`) an argument is wrong; nothing was sent.
            TinkerError: (from the future) the sampler has gone on to newer weights than this client is for: a frozen
                reference, for which scores are mostly wanted, must not change.
        """
        asked = to_input(prompt, "prompt")
        first = _first_scored(asked.length, prompt_logprobs_last_n, True)
        core, version = self._client._core, self._version

        async def score() -> list[float | None]:
            result = await core.sample_async(asked, 1, _SCORE, include_prompt_logprobs=True)
            if version is not None and result.policy_version not in (None, version):
                raise WeightsNotReadyError(_GONE_ON.format(version=version, now=result.policy_version))
            scores = without_first(first, result.prompt_logprobs)
            if scores is None:
                raise ProtocolError("unexpected completion: no prompt_logprobs, which were asked for")
            return scores

        return APIFuture.of("compute_logprobs", self._client, score)

    compute_logprobs_async = awaited(compute_logprobs)

    def get_base_model(self) -> str:
        """Name of the base model, as it was given."""
        return self._client.base_model

    async def get_base_model_async(self) -> str:
        """As `get_base_model`."""
        return self.get_base_model()

    def get_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the base model, loaded once per process.

        Raises:
            InvalidInputError: there is none under the name of the base model.
        """
        return self._client.get_tokenizer()

    def get_telemetry(self) -> None:
        """`None`: this package sends none."""

    get_sampler_handle, _ = refused(
        "SamplingClient.get_sampler_handle", "a handle would carry the key; pickle the client, which does not"
    )
    from_sampler_handle, _ = refused(
        "SamplingClient.from_sampler_handle", "there are no handles; unpickle a client that was pickled"
    )


class BackcompatSamplingClientFuture(APIFuture[SamplingClient], SamplingClient):
    """The future of a client that older scripts use as the client itself: it waits when it is first used."""

    @classmethod
    def _made(
        cls,
        operation: str,
        parent: Proxy[Any],
        make: Callable[[], Awaitable[loops_sdk.SamplingClient]],
        *,
        fixed: bool = True,
    ) -> Self:
        """The future of what `make` makes on the connections of `parent`; `fixed` if its weights must not change."""

        async def work() -> SamplingClient:
            core = await make()
            version = core.min_policy_version if fixed else None
            return SamplingClient(loops_sdk_sync.SamplingClient._around(core, parent), version)

        return cls.of(operation, parent, work)

    @property
    def _client(self) -> loops_sdk_sync.SamplingClient:  # type: ignore[override]
        return self.result()._client

    @property
    def _version(self) -> int | None:  # type: ignore[override]
        return self.result()._version

    def __repr__(self) -> str:
        return APIFuture.__repr__(self)

    def __reduce__(self) -> Any:
        return self.result().__reduce__()


def _first_scored(length: int, last: int | None, wanted: bool) -> int:
    """Position of the first token of the prompt whose log-probability is wanted."""
    if last is None:
        return 0
    if type(last) is not int or not 1 <= last < length:
        raise InvalidInputError(f"prompt_logprobs_last_n: expected 1 to {length - 1} for this prompt, got {last!r}")
    if not wanted:
        raise InvalidInputError("prompt_logprobs_last_n: needs include_prompt_logprobs=True")
    return length - last
