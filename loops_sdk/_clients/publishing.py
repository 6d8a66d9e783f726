"""Sampling clients of the paired sampler: which of the weights that were published they ask for."""

from __future__ import annotations

import time
from functools import partial

import attrs

from loops_sdk._clients.models import Models, find
from loops_sdk._clients.pairing import PairedSampler
from loops_sdk._clients.readiness import weights_loaded
from loops_sdk._clients.sampling import SamplingClient
from loops_sdk._net.network import Network
from loops_sdk.errors import InvalidInputError, WeightsNotReadyError
from loops_sdk.instrumentation.waiting import waiting
from loops_sdk.types import CheckpointPath, Deployment, SaveWeightsResponse


@attrs.frozen
class Publishing:
    """The way from published weights to a client that samples from them.

    Args:
        timeout: seconds that one call of such a client may take.
        publish_timeout: seconds to wait until the sampler has loaded what was published.
    """

    network: Network
    sampler: PairedSampler
    base_model: str
    run_id: str | None
    timeout: float
    publish_timeout: float

    async def pinned(self, version: int) -> SamplingClient:
        """A client that no older weights answer, once the sampler has loaded `version`.

        Raises:
            WeightsNotReadyError: it has not within `publish_timeout` seconds.
        """
        deployment = await self.sampler.deployment()
        models = Models(deployment.base_url, self.network.caller)
        look = partial(models.live_adapter, time.monotonic() + self.publish_timeout)
        with waiting(self.network.caller.emit, "publish", f"policy version {version} at the sampler", self.run_id):
            await weights_loaded(look, version, self.publish_timeout)
        return self._client(deployment, min_policy_version=version)

    async def at(self, model_path: str, last: SaveWeightsResponse | None) -> SamplingClient:
        """A client that samples from a checkpoint which the sampler shows, or which is what was published last.

        Raises:
            WeightsNotReadyError: it is neither.
        """
        deployment = await self.sampler.deployment()
        models = await Models(deployment.base_url, self.network.caller).look()
        if find(models, model_path) is not None:
            return self._client(deployment, checkpoint_path=model_path)
        if last is None or last.path != model_path:
            raise WeightsNotReadyError(
                f"model_path: the paired sampler does not show {model_path}; it follows the weights last published",
                run_id=self.run_id,
            )
        return self._client(deployment, min_policy_version=last.policy_version)

    def check(self, model_path: str) -> None:
        """Refuse what is not the address of sampler weights of this run."""
        path = sampler_weights(model_path)
        if self.run_id is not None and path.run_id != self.run_id:
            raise InvalidInputError(f"model_path: the paired sampler serves run {self.run_id}, got {model_path!r}")

    def _client(
        self,
        deployment: Deployment,
        *,
        checkpoint_path: str | None = None,
        min_policy_version: int | None = None,
    ) -> SamplingClient:
        return SamplingClient._of_service(
            self.network,
            self.base_model,
            deployment,
            sampler_id=self.sampler.sampler_id,
            session_id=self.sampler.session_id,
            checkpoint_path=checkpoint_path,
            min_policy_version=min_policy_version,
            timeout=self.timeout,
            run_id=self.run_id,
        )


def sampler_weights(model_path: str) -> CheckpointPath:
    """The address of what samplers load; anything else is refused."""
    path = CheckpointPath.parse(model_path, "model_path")
    if path.kind != "sampler_weights":
        raise InvalidInputError(f"model_path: expected sampler_weights, which samplers load; got {model_path!r}")
    return path
