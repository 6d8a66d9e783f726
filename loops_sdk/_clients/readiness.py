"""Waiting until a trainer or a sampler is up: patient with one that is starting, quick with one that never will."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from loops_sdk._clients.control import ControlPlane
from loops_sdk._net.caller import Caller, Patience
from loops_sdk._wire import endpoints
from loops_sdk._wire.bodies import ModelCard
from loops_sdk.errors import (
    AuthenticationError,
    ClientClosedError,
    DeploymentFailedError,
    LoopsError,
    NotFoundError,
    PermissionDeniedError,
    RequestTimeoutError,
    WeightsNotReadyError,
)
from loops_sdk.types import Run, Sampler

#: States from which a sampler does not come up by itself.
DEAD = frozenset({"INACTIVE", "FAILED", "DEPLOY_FAILED", "BUILD_FAILED", "BUILD_STOPPED", "UNHEALTHY", "DEACTIVATING"})

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_LONGEST_LOOK = 30.0
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


async def trainer_ready(run: Run, caller: Caller, control: ControlPlane, timeout: float) -> None:
    """Return once the trainer of `run` answers ``/health``.

    Raises:
        DeploymentFailedError: the control plane says that the run is over.
        RequestTimeoutError: not within `timeout` seconds; session and run id are on the error.
    """
    looks = 0
    trouble: LoopsError | None = None
    async for left in _pauses(timeout):
        look = Patience(total=min(left, _LONGEST_LOOK), attempts=1)
        try:
            await caller.send(endpoints.HEALTH, endpoints.HEALTH.url(run.base_url), patience=look)
        except _FINAL:
            raise
        except LoopsError as error:
            trouble, looks = error, looks + 1
        else:
            return
        if looks % _LOOKS_PER_CHECK == 0 and await _is_over(run, control):
            raise _dead("trainer", "INACTIVE", trouble, run.session_id, run.id)
    raise _not_up("trainer", timeout, trouble, run.session_id, run.id)


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


async def sampler_ready(
    sampler: Sampler, control: ControlPlane, timeout: float, *, session_id: str | None, run_id: str | None
) -> Sampler:
    """The sampler once the control plane calls it ``ACTIVE``.

    Raises:
        DeploymentFailedError: it is in a state from which it does not come up.
        RequestTimeoutError: not within `timeout` seconds.
    """
    async for _ in _pauses(timeout):
        if sampler.status.name == "ACTIVE":
            return sampler
        if sampler.status.name in DEAD:
            raise _dead("sampler", sampler.status.name, None, session_id, run_id)
        sampler = await control.get_sampler(sampler.id)
    raise _not_up("sampler", timeout, None, session_id, run_id)


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
        f"no sampler replica reported policy version {version} within {timeout:g} s; the last one showed {shown}"
    ) from trouble


def _dead(
    what: str, state: str, trouble: LoopsError | None, session_id: str | None, run_id: str | None
) -> DeploymentFailedError:
    cause = f" ({trouble.message})" if trouble else ""
    message = f"the {what} is {state} and will not come up{cause}; create a new one"
    return DeploymentFailedError(message, session_id=session_id, run_id=run_id)


def _not_up(
    what: str, timeout: float, trouble: LoopsError | None, session_id: str | None, run_id: str | None
) -> RequestTimeoutError:
    cause = f"; the last trouble was: {trouble.message}" if trouble else ""
    message = f"the {what} was not ready within {timeout:g} s{cause}"
    error = RequestTimeoutError(message, elapsed=timeout, session_id=session_id, run_id=run_id)
    error.__cause__ = trouble
    return error
