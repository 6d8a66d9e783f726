"""From a question to a `SampleResult`: which model is named, which weights are new enough, and how long that may take.

What a question is made of is decided elsewhere, and so is who asks.
"""

from __future__ import annotations

import time
from functools import partial

from loops_sdk._clients.asking import Question
from loops_sdk._clients.binding import Binding
from loops_sdk._clients.models import Models, shows_adapter
from loops_sdk._clients.readiness import weights_loaded
from loops_sdk._net.caller import Caller, Patience
from loops_sdk._net.transport import Response
from loops_sdk._wire import codec
from loops_sdk._wire.bodies import CompletionBody, ModelCard
from loops_sdk._wire.completions import MIN_POLICY_VERSION, sample_result
from loops_sdk._wire.endpoints import COMPLETIONS
from loops_sdk._wire.failures import is_not_ready
from loops_sdk.errors import LoopsError, NotFoundError, ProtocolError, StatusError, WeightsNotReadyError
from loops_sdk.instrumentation.trails import Trail
from loops_sdk.types import SampleResult

_ATTEMPTS = 6


class Completions:
    """The completions of one sampler, by the weights that `binding` asks for."""

    def __init__(self, binding: Binding, models: Models, caller: Caller) -> None:
        self._binding, self._models, self._caller = binding, models, caller
        self._url = COMPLETIONS.url(binding.deployment.base_url)
        self._floor = binding.min_policy_version
        about = {"run_id": binding.run_id, "model": binding.base_model, "sampler_id": binding.sampler_id}
        self._trails = caller.trails.of(**about)

    def begin(self, operation: str) -> Trail:
        """The trail of a call that is made now."""
        return self._trails.begin(operation, self._url)

    async def answer(self, question: Question, deadline: float, trail: Trail) -> SampleResult:
        """One completion by `deadline`, on the clock of `time.monotonic`; a model that the sampler has replaced in the
        meantime is looked up once more.
        """
        try:
            return await self._once(question, deadline, trail)
        except NotFoundError:
            self._models.forget()
            return await self._once(question, deadline, trail)

    async def _once(self, question: Question, deadline: float, trail: Trail) -> SampleResult:
        request = question.to(await self._model(deadline))
        start = time.monotonic()
        response = await self._send(request, question.headers, deadline, trail)
        try:
            result = _result(response, question)
            self._check_version(result)
        except LoopsError as error:
            told = response.context() | {"elapsed": time.monotonic() - start}
            error.add_context(operation="sample", url=self._url, **told)
            raise
        return result

    async def _model(self, deadline: float) -> ModelCard:
        """The model to name. Weights that this client is pinned to are an adapter: the base model is no stand-in."""
        checkpoint = self._binding.checkpoint_path
        model = await self._models.to_sample(checkpoint, deadline)
        if checkpoint is None and self._floor and not shows_adapter(model):
            look = partial(self._models.live_adapter, deadline)
            await weights_loaded(look, self._floor, deadline - time.monotonic())
            model = await self._models.to_sample(None, deadline)
        return model

    async def _send(self, request: CompletionBody, headers: dict[str, str], deadline: float, trail: Trail) -> Response:
        patience = Patience(total=deadline - time.monotonic(), attempts=_ATTEMPTS)
        if self._floor is not None:
            headers = {**headers, MIN_POLICY_VERSION: str(self._floor)}
        body = codec.encode(request)
        try:
            return await self._caller.send(
                COMPLETIONS, self._url, patience=patience, body=body, headers=headers, trail=trail
            )
        except StatusError as error:
            if not is_not_ready(error):
                raise
            raise WeightsNotReadyError(error.message, **error.context()) from error

    def _check_version(self, result: SampleResult) -> None:
        floor, served = self._floor, result.policy_version
        if floor is not None and served is not None and served < floor:
            raise WeightsNotReadyError(
                f"the sampler answered with policy version {served}, but this client is pinned to {floor}"
            )


def _result(response: Response, asked: Question) -> SampleResult:
    reply = codec.loads(response.body)
    result = sample_result(reply, response.headers, topk_prompt_logprobs=asked.topk, prompt=asked.prompt)
    if len(result.sequences) != asked.num_samples:
        raise ProtocolError(
            f"unexpected completion: {len(result.sequences)} choices, {asked.num_samples} were asked for"
        )
    return result
