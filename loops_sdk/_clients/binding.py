"""What ties a `SamplingClient` to its sampler: all that may leave the process, and so never the key.

It checks these values and says which hosts the key may travel to. It opens connections and asks nothing.
"""

from __future__ import annotations

import attrs

from loops_sdk._net.network import ApiKey, Network
from loops_sdk._net.transport import Transport
from loops_sdk.errors import InvalidInputError
from loops_sdk.types import BasetenDeployment, CheckpointPath, Deployment, LocalDeployment
from loops_sdk.types._checks import check_int, check_number, check_text, shown


def trust_deployment(transport: Transport, argument: str, deployment: object) -> None:
    """Allow the key to travel to the hosts that a deployment names: its sampler, and who knows the sampler's state.

    Raises:
        InvalidInputError: not a deployment.
    """
    checked = check_deployment(argument, deployment)
    transport.trust(checked.base_url, argument)
    if isinstance(checked, BasetenDeployment):
        transport.trust(checked.api_base_url, argument)


def check_deployment(argument: str, deployment: object) -> Deployment:
    """The deployment, once it is sure that it is one."""
    if not isinstance(deployment, LocalDeployment | BasetenDeployment):
        raise InvalidInputError(
            f"{argument}: expected LocalDeployment(base_url) or BasetenDeployment(...), got {shown(deployment)}"
        )
    return deployment


@attrs.frozen
class Binding:
    """The arguments of a client, checked, but for its key; `timeout` and `ready_timeout` in seconds."""

    base_model: str
    deployment: Deployment
    sampler_id: str | None = None
    session_id: str | None = None
    checkpoint_path: str | None = None
    min_policy_version: int | None = None
    timeout: float = 600.0
    ready_timeout: float = 3600.0
    run_id: str | None = None  #: of the training client that made it

    def __attrs_post_init__(self) -> None:
        check_text("base_model", self.base_model)
        check_deployment("deployment", self.deployment)
        for argument in ("sampler_id", "session_id"):
            if (name := getattr(self, argument)) is not None:
                check_text(argument, name, most=255)
        if self.checkpoint_path is not None:
            CheckpointPath.parse(self.checkpoint_path, "checkpoint_path")
        if self.min_policy_version is not None:
            check_int("min_policy_version", self.min_policy_version, low=0)
        check_number("timeout", self.timeout, above=0)
        check_number("ready_timeout", self.ready_timeout, above=0)

    def network(self, api_key: ApiKey) -> Network:
        """Connections of a client's own, whose key goes to the hosts of the deployment and nowhere else.

        Raises:
            InvalidInputError: there is no key, or it is not one.
        """
        network = Network(api_key)
        trust_deployment(network.transport, "deployment", self.deployment)
        return network

    def __str__(self) -> str:
        weights = self.checkpoint_path or (
            "current weights" if self.min_policy_version is None else f"version >= {self.min_policy_version}"
        )
        return f"{self.base_model} at {self.deployment.base_url}, {weights}"
