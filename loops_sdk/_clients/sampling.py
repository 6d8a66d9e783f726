"""`SamplingClient`: continuations and log-probabilities from a sampler.

It says what can be asked, when a client opens and closes, and what of it travels in a pickle. Batching and decoding
are the sampler's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from loops_sdk._clients.asking import Question, question
from loops_sdk._clients.awaited import awaited_only
from loops_sdk._clients.binding import Binding, check_deployment, trust_deployment
from loops_sdk._clients.connection import Connection
from loops_sdk._clients.models import base_of, live_of
from loops_sdk._clients.readiness import deployment_ready
from loops_sdk._clients.tokenizers import tokenizer_of
from loops_sdk._net.network import ApiKey, Network
from loops_sdk._wire.bodies import ModelList
from loops_sdk.errors import LoopsError, ProtocolError
from loops_sdk.instrumentation import SampleFailed, SampleFinished
from loops_sdk.instrumentation.trails import Trail
from loops_sdk.types import (
    BasetenDeployment,
    Deployment,
    LocalDeployment,
    ModelInput,
    SampleResult,
    SamplingParams,
)
from loops_sdk.types._checks import check_number

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from transformers import PreTrainedTokenizerBase


class SamplingClient:
    """Samples from one sampler.

    Made by `TrainingClient.save_weights_and_get_sampling_client_async` it is pinned: no weights older than those just
    published ever answer. Made by `TrainingClient.create_sampling_client_async` it samples from one checkpoint. Made
    directly it follows whatever weights the sampler serves. Construction does no I/O; use it in one event loop.

    A client can be pickled, whatever made it, to sample in worker processes: each copy opens connections of its own
    when it is first used. The key does not travel. A copy takes ``BASETEN_API_KEY`` of its own process, or calls the
    function given as `api_key`, which travels in its place; observers stay behind.

    Args:
        base_model: name of the base model, for the tokenizer.
        deployment: where the sampler runs; ``LocalDeployment("http://127.0.0.1:8000")`` also fits a plain vLLM server.
        api_key: the key, or a function that returns it; default ``BASETEN_API_KEY``; an empty string sends no key. It
            is sent to the hosts of `deployment`, nowhere else.
        sampler_id: the service's id of the sampler, if it is known.
        session_id: the session that the sampler belongs to, if it is known; errors of a wait that ran out carry it.
        checkpoint_path: sample from this ``bt://...`` checkpoint instead of the current weights.
        min_policy_version: refuse weights with fewer optimizer steps than this. 0 is the base model: any weights will
            do.
        timeout: seconds one call may take, with all its attempts and with the wait for weights that are new enough.
        ready_timeout: seconds to wait for a sampler that is still coming up, where that is what is asked for.

    Raises:
        InvalidInputError: no key, or an argument out of range.
    """

    def __init__(
        self,
        *,
        base_model: str,
        deployment: Deployment,
        api_key: str | Callable[[], str] | None = None,
        sampler_id: str | None = None,
        session_id: str | None = None,
        checkpoint_path: str | None = None,
        min_policy_version: int | None = None,
        timeout: float = 600.0,
        ready_timeout: float = 3600.0,
    ) -> None:
        binding = Binding(
            base_model, deployment, sampler_id, session_id, checkpoint_path, min_policy_version, timeout, ready_timeout
        )
        self._connect(Connection.owned(binding, api_key))

    @classmethod
    def _of_service(
        cls,
        network: Network,
        base_model: str,
        deployment: Deployment,
        *,
        sampler_id: str | None = None,
        session_id: str | None = None,
        checkpoint_path: str | None = None,
        min_policy_version: int | None = None,
        timeout: float = 600.0,
        ready_timeout: float = 3600.0,
        run_id: str | None = None,
    ) -> Self:
        """A client on connections that trust the deployment's hosts already and that others close."""
        ids = sampler_id, session_id, checkpoint_path, min_policy_version
        binding = Binding(base_model, deployment, *ids, timeout, ready_timeout, run_id)
        return cls._over(Connection(binding, network))

    @classmethod
    def _of_pickle(cls, binding: Binding, api_key: ApiKey) -> Self:
        """A copy; it opens connections of its own when it first needs them."""
        return cls._over(Connection(binding, None, api_key))

    def __reduce__(self) -> tuple[Any, ...]:
        return self._of_pickle, (self._binding, self._connection.portable_key)

    @classmethod
    def _over(cls, connection: Connection) -> Self:
        self = cls.__new__(cls)
        self._connect(connection)
        return self

    def _connect(self, connection: Connection) -> None:
        self._connection = connection
        self._binding = connection.binding
        self._under_way = 0

    def __repr__(self) -> str:
        return f"<SamplingClient {self._binding}, {self._under_way} under way>"

    @property
    def base_model(self) -> str:
        """Name of the base model as it was given; no network."""
        return self._binding.base_model

    @property
    def sampler_id(self) -> str | None:
        """The service's id of the sampler; no network. `None` when this client was made from an address alone."""
        return self._binding.sampler_id

    @property
    def session_id(self) -> str | None:
        """The session that the sampler belongs to; no network. `None` when this client was made from an address
        alone.
        """
        return self._binding.session_id

    @property
    def min_policy_version(self) -> int | None:
        """The oldest weights that may answer, as a number of optimizer steps; `None` when any may."""
        return self._binding.min_policy_version

    # ------------------------------------------------------------------ sampling

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

        A sampler that is asleep or still coming up is asked again within the time of the call.

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
            WeightsNotReadyError: the sampler has only weights older than this client is pinned to.
            LoopsError: the sampler could not be reached or failed, after bounded attempts.
        """
        self._connection.require_open()
        asked = question(
            prompt, num_samples, sampling_params, include_prompt_logprobs, topk_prompt_logprobs, affinity_key
        )
        return await self._answered("sample", asked)

    async def compute_logprobs_async(self, prompt: ModelInput | Sequence[int]) -> list[float | None]:
        """The log-probability of each prompt token given those before it, in nats; entry 0 is `None`.

        The sampler adds one token to the prompt, the least it can be asked for, and that is dropped: the prompt must
        leave room for it in the model's context.

        Raises:
            InvalidInputError, BadRequestError, WeightsNotReadyError, LoopsError: as `sample_async`.
        """
        self._connection.require_open()
        asked = question(prompt, 1, SamplingParams(max_tokens=1, temperature=0.0), True, 0, None)
        result = await self._answered("compute_logprobs", asked)
        if result.prompt_logprobs is None:
            raise ProtocolError("unexpected completion: no prompt_logprobs, which were asked for", operation="sample")
        return result.prompt_logprobs

    # ------------------------------------------------------------------ what the sampler serves

    async def get_base_model_id_async(self) -> str:
        """What the sampler calls its base model, which may be a path on its own disk; `base_model` stays the name that
        was given. Waits up to `ready_timeout` for a sampler that is still coming up.

        Raises:
            RequestTimeoutError: the sampler was not up in time.
            LoopsError: the sampler failed.
        """
        return base_of(await self._shown()).id

    async def get_adapter_id_async(self) -> str | None:
        """What the sampler calls the adapter it serves now; `None` while nothing has been published. Waits up to
        `ready_timeout` for a sampler that is still coming up.

        Raises:
            RequestTimeoutError, LoopsError: as `get_base_model_id_async`.
        """
        adapter = live_of(await self._shown())
        return None if adapter is None else adapter.id

    async def get_tokenizer_async(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the base model, loaded once per process.

        Raises:
            InvalidInputError: there is no tokenizer under the name of the base model.
        """
        return await tokenizer_of(self._binding.base_model, self._connection.emit)

    # ------------------------------------------------------------------ beginning and end

    async def ensure_ready_async(self, timeout: float | None = None) -> None:
        """Return once the sampler's deployment is ``ACTIVE``; one that sleeps is woken once. At once for a
        `LocalDeployment`, whose state nobody keeps.

        Args:
            timeout: seconds to wait; default: the client's `ready_timeout`.

        Raises:
            DeploymentFailedError: it is in a state from which it does not come up.
            RequestTimeoutError: not within `timeout` seconds.
            LoopsError: the control plane could not be reached.
        """
        self._connection.require_open()
        seconds = self._binding.ready_timeout if timeout is None else timeout
        check_number("timeout", seconds, above=0)
        if isinstance(self._binding.deployment, BasetenDeployment):
            caller = self._connection.network.caller
            await deployment_ready(self._binding.deployment, caller, seconds, session_id=self.session_id)

    @classmethod
    async def wait_until_ready_async(
        cls, deployment: Deployment, *, timeout: float = 3600.0, api_key: str | Callable[[], str] | None = None
    ) -> None:
        """As `ensure_ready_async`, for a deployment of which no client is needed.

        Args:
            deployment: the deployment to wait for.
            timeout: seconds to wait.
            api_key: as in the constructor.

        Raises:
            InvalidInputError: no key, or an argument out of range.
            DeploymentFailedError, RequestTimeoutError, LoopsError: as `ensure_ready_async`.
        """
        check_deployment("deployment", deployment)
        check_number("timeout", timeout, above=0)
        if isinstance(deployment, LocalDeployment):
            return
        network = Network(api_key)
        try:
            trust_deployment(network.transport, "deployment", deployment)
            await deployment_ready(deployment, network.caller, timeout)
        finally:
            await network.aclose()

    async def aclose(self) -> None:
        """Close the connections if they are this client's own; those of a service stay open for its other clients."""
        await self._connection.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # ------------------------------------------------------------------ how

    async def _answered(self, operation: str, asked: Question) -> SampleResult:
        start = time.monotonic()
        trail = self._connection.completions.begin(operation)
        try:
            result = await self._answer(asked, start + self._binding.timeout, trail)
        except BaseException as error:
            told = (time.monotonic() - start, str(error), type(error).__name__, self._under_way, trail.run_id)
            trail.emit(SampleFailed(operation, *told))
            raise
        new_tokens = sum(len(sequence.tokens) for sequence in result.sequences)
        took = time.monotonic() - start
        trail.emit(SampleFinished(operation, took, new_tokens, result.policy_version, self._under_way, trail.run_id))
        return result

    async def _answer(self, asked: Question, deadline: float, trail: Trail) -> SampleResult:
        self._under_way += 1
        try:
            return await self._connection.completions.answer(asked, deadline, trail)
        finally:
            self._under_way -= 1

    async def _shown(self) -> ModelList:
        """What the sampler shows, once it is up."""
        self._connection.require_open()
        try:
            return await self._connection.models.once_up(self._binding.ready_timeout)
        except LoopsError as error:
            error.add_context(session_id=self.session_id)
            raise


awaited_only(SamplingClient)
