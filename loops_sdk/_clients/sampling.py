"""`SamplingClient`: continuations and log-probabilities from a sampler.

It decides which model a request names and which weights are new enough. Batching and decoding are the sampler's
business.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from loops_sdk._clients.models import Models, shows_adapter
from loops_sdk._clients.readiness import weights_loaded
from loops_sdk._clients.tokenizers import tokenizer_of
from loops_sdk._net.caller import Patience
from loops_sdk._net.network import Network
from loops_sdk._net.transport import Response
from loops_sdk._wire import codec
from loops_sdk._wire.bodies import CompletionBody, ModelCard
from loops_sdk._wire.completions import MIN_POLICY_VERSION, sample_result
from loops_sdk._wire.endpoints import COMPLETIONS
from loops_sdk._wire.failures import is_not_ready
from loops_sdk.errors import (
    ClientClosedError,
    InvalidInputError,
    LoopsError,
    NotFoundError,
    ProtocolError,
    StatusError,
    WeightsNotReadyError,
)
from loops_sdk.instrumentation import SampleFinished
from loops_sdk.types import (
    CheckpointPath,
    Deployment,
    EncodedTextChunk,
    ModelInput,
    SampleResult,
    SamplingParams,
)
from loops_sdk.types._checks import check_int, check_number, check_text, shown

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from transformers import PreTrainedTokenizerBase

_AFFINITY = "X-Affinity-Key"
_ATTEMPTS = 6


class SamplingClient:
    """Samples from one sampler.

    Made by `TrainingClient.save_weights_and_get_sampling_client_async` it is pinned: no weights older than those just
    published ever answer. Made by `TrainingClient.create_sampling_client_async` it samples from one checkpoint. Made
    directly it follows whatever weights the sampler serves. Construction does no I/O; use it in one event loop.

    Args:
        base_model: name of the base model, for the tokenizer.
        deployment: where the sampler runs; ``LocalDeployment("http://127.0.0.1:8000")`` also fits a plain vLLM server.
        api_key: default ``BASETEN_API_KEY``; an empty string sends no key.
        checkpoint_path: sample from this ``bt://...`` checkpoint instead of the current weights.
        min_policy_version: refuse weights with fewer optimizer steps than this.
        timeout: seconds one call may take, with all its attempts.

    Raises:
        InvalidInputError: no key, or an argument out of range.
    """

    def __init__(
        self,
        *,
        base_model: str,
        deployment: Deployment,
        api_key: str | None = None,
        checkpoint_path: str | None = None,
        min_policy_version: int | None = None,
        timeout: float = 600.0,
    ) -> None:
        check_text("base_model", base_model)
        url = deployment_url("deployment", deployment)
        if checkpoint_path is not None:
            CheckpointPath.parse(checkpoint_path, "checkpoint_path")
        if min_policy_version is not None:
            check_int("min_policy_version", min_policy_version, low=0)
        self._connect(
            Network(api_key), base_model, deployment, checkpoint_path, min_policy_version, timeout, owned=True
        )
        self._network.transport.trust(url, "deployment")

    @classmethod
    def _of_service(
        cls,
        network: Network,
        base_model: str,
        deployment: Deployment,
        *,
        checkpoint_path: str | None = None,
        min_policy_version: int | None = None,
        timeout: float = 600.0,
    ) -> Self:
        self = cls.__new__(cls)
        self._connect(network, base_model, deployment, checkpoint_path, min_policy_version, timeout, owned=False)
        return self

    def _connect(
        self,
        network: Network,
        base_model: str,
        deployment: Deployment,
        checkpoint_path: str | None,
        min_policy_version: int | None,
        timeout: float,
        *,
        owned: bool,
    ) -> None:
        check_number("timeout", timeout, above=0)
        self._network = network
        self._owned = owned
        self._base_model = base_model
        self._deployment = deployment
        self._checkpoint_path = checkpoint_path
        self._min_policy_version = min_policy_version
        self._timeout = timeout
        self._closed = False
        self._models = Models(deployment.base_url, network.caller)
        self._under_way = 0

    def __repr__(self) -> str:
        weights = self._checkpoint_path or (
            "current weights" if self._min_policy_version is None else f"version >= {self._min_policy_version}"
        )
        place = f"{self._base_model} at {self._deployment.base_url}"
        return f"<SamplingClient {place}, {weights}, {self._under_way} under way>"

    @property
    def base_model(self) -> str:
        """Name of the base model; no network."""
        return self._base_model

    @property
    def min_policy_version(self) -> int | None:
        """The oldest weights that may answer, as a number of optimizer steps; `None` when any may."""
        return self._min_policy_version

    async def sample_async(
        self,
        prompt: ModelInput | Sequence[int],
        num_samples: int = 1,
        sampling_params: SamplingParams | None = None,
        include_prompt_logprobs: bool = False,
        topk_prompt_logprobs: int = 0,
        affinity_key: str | None = None,
    ) -> SampleResult:
        """Sample continuations of a prompt.

        Args:
            prompt: token ids, as `ModelInput` or a plain sequence; at least one.
            num_samples: number of continuations, >= 1.
            sampling_params: how to sample; default `SamplingParams()`.
            include_prompt_logprobs: also report the log-probability of each prompt token.
            topk_prompt_logprobs: also report this many most probable tokens per prompt position.
            affinity_key: a hint for routers: requests with the same key go to the same replica, whose cache knows the
                prefix.

        Returns:
            The continuations with the log-probabilities of their tokens, and the policy version that sampled them.

        Raises:
            InvalidInputError: an argument is wrong; nothing was sent.
            BadRequestError: the sampler refused the request, for example because the prompt is too long.
            WeightsNotReadyError: the sampler answered with weights older than this client is pinned to.
            LoopsError: the sampler could not be reached or failed, after bounded attempts.
        """
        start = time.monotonic()
        if self._closed:
            raise ClientClosedError("the client is closed")
        tokens = _prompt(prompt)
        check_int("num_samples", num_samples, low=1)
        check_int("topk_prompt_logprobs", topk_prompt_logprobs, low=0)
        params = sampling_params if sampling_params is not None else SamplingParams()
        if not isinstance(params, SamplingParams):
            raise InvalidInputError(f"sampling_params: expected SamplingParams, got {type(params).__name__}")
        wanted = topk_prompt_logprobs if include_prompt_logprobs or topk_prompt_logprobs else None
        request = _request(tokens, num_samples, params, wanted)
        headers = self._headers(affinity_key)
        self._under_way += 1
        try:
            result = await self._complete(request, headers, topk_prompt_logprobs, start + self._timeout)
        finally:
            self._under_way -= 1
        new_tokens = sum(len(sequence.tokens) for sequence in result.sequences)
        self._network.caller.emit(SampleFinished("sample", time.monotonic() - start, new_tokens, result.policy_version))
        return result

    async def compute_logprobs_async(self, prompt: ModelInput | Sequence[int]) -> list[float | None]:
        """The log-probability of each prompt token given those before it, in nats; entry 0 is `None`.

        Raises:
            InvalidInputError, BadRequestError, WeightsNotReadyError, LoopsError: as `sample_async`.
        """
        params = SamplingParams(max_tokens=1, temperature=0.0)
        result = await self.sample_async(prompt, 1, params, include_prompt_logprobs=True)
        if result.prompt_logprobs is None:
            raise ProtocolError("unexpected completion: no prompt_logprobs, which were asked for", operation="sample")
        return result.prompt_logprobs

    async def get_tokenizer_async(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the base model, loaded once per process.

        Raises:
            InvalidInputError: there is no tokenizer under the name of the base model.
        """
        return await tokenizer_of(self._base_model)

    async def aclose(self) -> None:
        """Close the connections if they are this client's own; those of a service stay open for its other clients."""
        self._closed = True
        if self._owned:
            await self._network.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # ------------------------------------------------------------------ one completion

    def _headers(self, affinity_key: str | None) -> dict[str, str]:
        headers = {}
        if self._min_policy_version is not None:
            headers[MIN_POLICY_VERSION] = str(self._min_policy_version)
        if affinity_key is not None:
            check_text("affinity_key", affinity_key, most=255)
            if not (affinity_key.isascii() and affinity_key.isprintable()):
                raise InvalidInputError(f"affinity_key: expected printable ASCII, got {shown(affinity_key)}")
            headers[_AFFINITY] = affinity_key
        return headers

    async def _complete(
        self, request: CompletionBody, headers: dict[str, str], topk: int, deadline: float
    ) -> SampleResult:
        """One completion; a model that the sampler has replaced in the meantime is looked up once more."""
        try:
            return await self._once(request, headers, topk, deadline)
        except NotFoundError:
            self._models.forget()
            return await self._once(request, headers, topk, deadline)

    async def _once(self, request: CompletionBody, headers: dict[str, str], topk: int, deadline: float) -> SampleResult:
        url = COMPLETIONS.url(self._deployment.base_url)
        model = await self._model(deadline)
        body = codec.encode(attrs.evolve(request, model=model.id, max_tokens=_room(request, model)))
        response = await self._send(url, body, headers, deadline)
        try:
            reply = codec.loads(response.body)
            result = sample_result(reply, response.headers, topk_prompt_logprobs=topk, prompt=request.prompt)
            _check_number(result, request.n)
        except LoopsError as error:
            error.add_context(operation="sample", url=url, status=response.status)
            raise
        self._check_version(result, url)
        return result

    async def _model(self, deadline: float) -> ModelCard:
        """The model to name. Weights that this client is pinned to are an adapter: the base model is no stand-in."""
        model = await self._models.to_sample(self._checkpoint_path)
        if self._checkpoint_path is None and self._min_policy_version and not shows_adapter(model):
            left = deadline - time.monotonic()
            await weights_loaded(self._models.live_adapter, self._min_policy_version, left)
            model = await self._models.to_sample(None)
        return model

    async def _send(self, url: str, body: bytes, headers: dict[str, str], deadline: float) -> Response:
        patience = Patience(total=deadline - time.monotonic(), attempts=_ATTEMPTS)
        try:
            return await self._network.caller.send(COMPLETIONS, url, patience=patience, body=body, headers=headers)
        except StatusError as error:
            if not is_not_ready(error):
                raise
            raise WeightsNotReadyError(error.message, **error.context()) from error

    def _check_version(self, result: SampleResult, url: str) -> None:
        floor, served = self._min_policy_version, result.policy_version
        if floor is not None and served is not None and served < floor:
            raise WeightsNotReadyError(
                f"the sampler answered with policy version {served}, but this client is pinned to {floor}",
                operation="sample",
                url=url,
            )


def deployment_url(argument: str, deployment: object) -> str:
    """The address of a deployment, once it is sure that it is one."""
    if not isinstance(deployment, Deployment):
        raise InvalidInputError(
            f"{argument}: expected LocalDeployment(base_url) or BasetenDeployment(...), got {shown(deployment)}"
        )
    return deployment.base_url


def _check_number(result: SampleResult, wanted: int) -> None:
    if len(result.sequences) != wanted:
        raise ProtocolError(f"unexpected completion: {len(result.sequences)} choices, {wanted} were asked for")


def _prompt(prompt: ModelInput | Sequence[int]) -> Any:
    """The prompt's token ids as one array."""
    try:
        given = prompt if isinstance(prompt, ModelInput) else ModelInput.from_ints(prompt)
        only = given.chunks[0] if len(given.chunks) == 1 else None
        text = only if isinstance(only, EncodedTextChunk) else EncodedTextChunk(given.to_ints())
    except InvalidInputError as error:
        raise InvalidInputError(f"prompt: {error.message}") from None
    if not text.length:
        raise InvalidInputError("prompt: expected at least one token, got none")
    return text.tokens


def _request(tokens: Any, num_samples: int, params: SamplingParams, prompt_logprobs: int | None) -> CompletionBody:
    texts = [item for item in params.stop if isinstance(item, str)]
    ids = [item for item in params.stop if isinstance(item, int)]
    return CompletionBody(
        model="",
        prompt=tokens,
        n=num_samples,
        max_tokens=params.max_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        seed=params.seed,
        logprobs=0,
        prompt_logprobs=prompt_logprobs,
        stop=texts or None,
        stop_token_ids=ids or None,
        return_tokens_as_token_ids=True,
        return_token_ids=True,
    )


def _room(request: CompletionBody, model: ModelCard) -> int | None:
    """The number of new tokens: as asked for, else all that the context still holds, else the server's own default."""
    if request.max_tokens is not None or model.max_model_len is None:
        return request.max_tokens
    return max(1, model.max_model_len - len(request.prompt))
