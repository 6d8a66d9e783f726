"""Waiting until a trainer or a sampler is up: patient with one that is starting, quick with one that never will."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import attrs

from loops_sdk._clients.control import ControlPlane
from loops_sdk._net.addresses import origin
from loops_sdk._net.caller import Caller, Patience
from loops_sdk._wire import endpoints
from loops_sdk._wire.bodies import ModelCard
from loops_sdk._wire.retrying import is_transient
from loops_sdk.errors import (
    AuthenticationError,
    ClientClosedError,
    ConnectionFailedError,
    DeploymentFailedError,
    LoopsError,
    NotFoundError,
    PermissionDeniedError,
    RequestTimeoutError,
    WeightsNotReadyError,
)
from loops_sdk.instrumentation import Emit
from loops_sdk.instrumentation.waiting import Waiting, waiting
from loops_sdk.types import BasetenDeployment, Deployment, LocalDeployment, Run, Sampler

T = TypeVar("T")

#: States from which a sampler does not come up by itself.
DEAD = frozenset({"INACTIVE", "FAILED", "DEPLOY_FAILED", "BUILD_FAILED", "BUILD_STOPPED", "UNHEALTHY", "DEACTIVATING"})
_ASLEEP = "SCALED_TO_ZERO"

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_LONGEST_LOOK = 30.0
#: Statuses of a sampler that is still coming up: too early, and what gateways say of a server that is not there yet.
_STARTING = frozenset({425, 502, 503, 504})
#: Errors that waiting does not mend.
_FINAL = (AuthenticationError, PermissionDeniedError, ClientClosedError)
#: Every so many looks at a trainer that does not answer, ask the control plane whether it still exists.
_LOOKS_PER_CHECK = 8


async def _pauses(timeout: float) -> AsyncIterator[float]:
    """Yield the seconds that are left, with growing pauses between, until `timeout` has passed."""
    end = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while (left := end - time.monotonic()) > 0:
        yield left
        await asyncio.sleep(min(pause, max(0.0, end - time.monotonic())))
        pause = min(_LONGEST_PAUSE, pause * 1.5)


async def trainer_ready(run: Run, control: ControlPlane, timeout: float) -> None:
    """Return once the trainer of `run` answers ``/health``.

    Raises:
        DeploymentFailedError: the control plane says that the run is over.
        RequestTimeoutError: not within `timeout` seconds; session and run id are on the error.
    """
    wait = _Wait("trainer", timeout, run.session_id, run.id)
    await _healthy(wait, run.base_url, control.caller, lambda: _is_over(run, control))


async def address_ready(trainer_url: str, caller: Caller, timeout: float) -> None:
    """Return once the trainer at an address answers ``/health``.

    Raises:
        RequestTimeoutError: not within `timeout` seconds.
    """

    async def never() -> bool:
        return False

    await _healthy(_Wait(f"trainer at {trainer_url}", timeout), trainer_url, caller, never)


async def _healthy(wait: _Wait, url: str, caller: Caller, is_over: Callable[[], Awaitable[bool]]) -> None:
    with waiting(caller.emit, "trainer_ready", wait.subject, wait.run_id) as told:
        await _answering(wait, url, caller, is_over, told)


async def _answering(
    wait: _Wait, url: str, caller: Caller, is_over: Callable[[], Awaitable[bool]], told: Waiting
) -> None:
    looks = 0
    trouble: LoopsError | None = None
    async for left in _pauses(wait.timeout):
        look = Patience(total=min(left, _LONGEST_LOOK), attempts=1)
        try:
            await caller.send(endpoints.HEALTH, endpoints.HEALTH.url(url), patience=look)
        except LoopsError as error:
            wait.told(error)
            if isinstance(error, _FINAL):
                raise
            trouble, looks = error, looks + 1
            told.state(error.message)
        else:
            return
        if looks % _LOOKS_PER_CHECK == 0 and await is_over():
            raise wait.dead("INACTIVE", trouble)
    raise wait.over(trouble)


async def _is_over(run: Run, control: ControlPlane) -> bool:
    """Whether the control plane calls the run over, or does not know it any more. A control plane that has troubles of
    its own says nothing about the run.
    """
    try:
        return (await control.get_run(run.id)).status.name == "INACTIVE"
    except NotFoundError:
        return True
    except _FINAL:
        raise
    except LoopsError:
        return False


async def deployment_ready(
    deployment: Deployment,
    caller: Caller,
    timeout: float,
    *,
    session_id: str | None = None,
    run_id: str | None = None,
) -> None:
    """Return once the control plane calls the deployment ``ACTIVE``; at once for one that is simply there.

    A deployment that sleeps gets exactly one wake, whatever becomes of that. States that nobody knows yet count as
    coming up, and trouble that passes is waited out.

    Raises:
        DeploymentFailedError: it is in a state from which it does not come up.
        RequestTimeoutError: not within `timeout` seconds; the message tells the deployment and its last state.
        LoopsError: the control plane refuses the question.
    """
    if isinstance(deployment, BasetenDeployment):
        what = f"sampler (deployment {deployment.deployment_id} of model {deployment.model_id})"
        await _deployment_active(_Wait(what, timeout, session_id, run_id), deployment, caller)


async def sampler_ready(
    sampler: Sampler, control: ControlPlane, timeout: float, *, session_id: str | None, run_id: str | None
) -> Deployment:
    """Where a sampler is, once the control plane calls it ``ACTIVE``.

    Raises:
        DeploymentFailedError, RequestTimeoutError, LoopsError: as `deployment_ready`.
    """
    place = deployment_of(sampler, control.base_url)
    wait = _Wait(f"sampler {sampler.id}", timeout, session_id, run_id)
    if isinstance(place, BasetenDeployment):
        await _deployment_active(wait, place, control.caller)
    else:
        await _serverless_active(wait, sampler, control)
    return place


def deployment_of(sampler: Sampler, api_base_url: str) -> Deployment:
    """What a sampler runs on: the deployment of a model, or, serverless, nothing but an address."""
    if sampler.model_id and sampler.deployment_id:
        return BasetenDeployment(sampler.base_url, sampler.model_id, sampler.deployment_id, api_base_url)
    return LocalDeployment(sampler.base_url)


async def _deployment_active(wait: _Wait, place: BasetenDeployment, caller: Caller) -> None:
    ids = {"model_id": place.model_id, "deployment_id": place.deployment_id}
    caller.transport.trust(place.api_base_url, "api_base_url")
    asked = endpoints.MODEL_DEPLOYMENT.url(place.api_base_url, **ids)
    woken = endpoints.WAKE.url(origin(place.base_url), deployment_id=place.deployment_id)

    async def look(patience: Patience) -> str:
        return (await caller.call(endpoints.MODEL_DEPLOYMENT, asked, patience=patience)).status

    async def wake(patience: Patience) -> None:
        await caller.send(endpoints.WAKE, woken, patience=patience)

    await _active(wait, look, wake, caller.emit)


async def _serverless_active(wait: _Wait, sampler: Sampler, control: ControlPlane) -> None:
    """Without a deployment there is nothing to wake: a serverless sampler that sleeps is woken by the first request."""

    async def look(patience: Patience) -> str:
        state = (await control.get_sampler(sampler.id, patience)).status.name
        return "ACTIVE" if state == _ASLEEP else state

    await _active(wait, look, None, control.caller.emit)


async def _active(
    wait: _Wait,
    look: Callable[[Patience], Awaitable[str]],
    wake: Callable[[Patience], Awaitable[None]] | None,
    emit: Emit,
) -> None:
    with waiting(emit, "sampler_ready", wait.subject, wait.run_id) as told:
        await _called_active(wait, look, wake, told)


async def _called_active(
    wait: _Wait,
    look: Callable[[Patience], Awaitable[str]],
    wake: Callable[[Patience], Awaitable[None]] | None,
    told: Waiting,
) -> None:
    trouble: LoopsError | None = None
    async for left in _pauses(wait.timeout):
        patience = Patience(total=min(left, _LONGEST_LOOK), attempts=1)
        try:
            wait.state = await look(patience)
        except LoopsError as error:
            wait.told(error)
            if not is_transient(error):
                raise
            trouble = error
            await asyncio.sleep(min(left, error.retry_after or 0.0))
            continue
        told.state(wait.state)
        if wait.state == "ACTIVE":
            return
        if wait.state in DEAD:
            raise wait.dead(wait.state, trouble)
        if wait.state == _ASLEEP and wake is not None:
            trouble, wake = await _tried(wake(patience)), None
    raise wait.over(trouble)


async def _tried(call: Awaitable[None]) -> LoopsError | None:
    """Why a call that may fail has failed."""
    try:
        await call
    except LoopsError as error:
        return error
    return None


@attrs.define
class _Wait:
    """One wait, for the errors that it may end with."""

    what: str
    timeout: float
    session_id: str | None = None
    run_id: str | None = None
    state: str | None = None

    @property
    def subject(self) -> str:
        """What is waited for, for people."""
        return f"{self.what} of run {self.run_id}" if self.run_id else self.what

    def dead(self, state: str, trouble: LoopsError | None) -> LoopsError:
        cause = f" ({trouble.message})" if trouble else ""
        message = f"the {self.what} is {state} and will not come up{cause}; create a new one"
        return self.told(DeploymentFailedError(message))

    def over(self, trouble: LoopsError | None) -> LoopsError:
        state = f"; it was {self.state}" if self.state else ""
        cause = f"; the last trouble was: {trouble.message}" if trouble else ""
        message = f"the {self.what} was not ready within {self.timeout:g} s{state}{cause}"
        error = RequestTimeoutError(message, elapsed=self.timeout)
        error.__cause__ = trouble
        return self.told(error)

    def told(self, error: LoopsError) -> LoopsError:
        error.add_context(session_id=self.session_id, run_id=self.run_id)
        return error


async def once_up(look: Callable[[], Awaitable[T]], timeout: float, *, unreachable: bool) -> T:
    """What `look` finds, once the sampler that it asks is up.

    Args:
        look: asks the sampler; its own attempts are bounded.
        timeout: seconds to go on asking one that is coming up.
        unreachable: whether a sampler that nobody can connect to counts as coming up, too.

    Raises:
        RequestTimeoutError: not within `timeout` seconds.
        LoopsError: it answered with what waiting does not mend.
    """
    trouble: LoopsError | None = None
    attempts = 0
    async for _ in _pauses(timeout):
        try:
            return await look()
        except LoopsError as error:
            if not _is_coming_up(error, unreachable):
                raise
            trouble, attempts = error, attempts + (error.attempts or 1)
    over = _Wait("sampler", timeout).over(trouble)
    over.add_context(attempts=attempts)
    raise over


def _is_coming_up(error: LoopsError, unreachable: bool) -> bool:
    """Whether a sampler that is still starting, or the gateway before it, answers like this."""
    if isinstance(error, ConnectionFailedError):
        return unreachable and is_transient(error)
    waits = isinstance(error, RequestTimeoutError) or error.status in _STARTING
    return waits or error.code == "model_not_ready" or "not ready" in error.message.lower()


async def weights_loaded(look: Callable[[], Awaitable[ModelCard | None]], version: int, timeout: float) -> None:
    """Return once the live adapter that `look` finds has at least `version`. Version 0 is the base model: no wait.

    A sampler that shows an adapter without a version is taken at its word: every request carries the wanted version
        anyway.

    Raises:
        WeightsNotReadyError: no replica reported the version within `timeout` seconds.
    """
    if version == 0:
        return
    seen: ModelCard | None = None
    trouble: LoopsError | None = None
    async for _ in _pauses(timeout):
        try:
            seen = await look()
        except _FINAL:
            raise
        except LoopsError as error:
            trouble = error
        if seen is not None and (seen.policy_version is None or seen.policy_version >= version):
            return
    shown = "no adapter" if seen is None else f"version {seen.policy_version}"
    raise WeightsNotReadyError(
        f"no sampler replica reported policy version {version} within {timeout:.3g} s; the last one showed {shown}. "
        f"Ask again later, or with a longer publish_timeout; `loops runs show` tells the state of the sampler"
    ) from trouble
