"""`attach_reference_logprobs` with clients that block: a function of the core that takes clients, in both forms."""

from __future__ import annotations

from collections.abc import Sequence

import loops_sdk
from loops_sdk import Datum, InvalidInputError
from loops_sdk_sync._generated.sampling import SamplingClient
from loops_sdk_sync._generated.training import TrainingClient

__all__ = ["attach_reference_logprobs", "attach_reference_logprobs_async"]


def attach_reference_logprobs(data: Sequence[Datum], reference: SamplingClient | TrainingClient) -> list[Datum]:
    """The same data, each datum with `reference_logprobs` in its `loss_fn_inputs`; blocks until they are there.

    Args and errors are those of `loops_sdk.attach_reference_logprobs_async`, with a client of this package.
    """
    client = _client(reference)
    return client._portal.call(loops_sdk.attach_reference_logprobs_async, data, client._core)


async def attach_reference_logprobs_async(
    data: Sequence[Datum], reference: SamplingClient | TrainingClient
) -> list[Datum]:
    """As `attach_reference_logprobs`, without blocking; on any event loop."""
    client = _client(reference)
    return await client._portal.call_async(loops_sdk.attach_reference_logprobs_async, data, client._core)


def _client(reference: object) -> SamplingClient | TrainingClient:
    if not isinstance(reference, SamplingClient | TrainingClient):
        kind = type(reference)
        told = f"{kind.__module__.split('.')[0]}.{kind.__name__}"
        raise InvalidInputError(
            f"reference: expected SamplingClient or TrainingClient of loops_sdk_sync, got {told}; "
            "clients of loops_sdk go to loops_sdk.attach_reference_logprobs_async"
        )
    return reference
