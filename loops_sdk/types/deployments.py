"""Where a sampler runs."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from loops_sdk.types._checks import check_address, text


def _address(_self: object, attribute: attrs.Attribute[str], value: object) -> None:
    check_address(attribute.name, value)


__all__ = ["BasetenDeployment", "Deployment", "LocalDeployment"]


@attrs.frozen
class LocalDeployment:
    """A sampler that is simply there, at an address: an embedded one, or any vLLM server that you started yourself.

    Args:
        base_url: address of the server, to which ``/v1/completions`` is appended.
    """

    base_url: str = attrs.field(validator=_address)


@attrs.frozen
class BasetenDeployment:
    """A sampler on the service: the deployment of a model, which may sleep and be woken.

    Args:
        base_url: address of the sampler, to which ``/v1/completions`` is appended.
        model_id: id of the model that the sampler runs as.
        deployment_id: id of the model's deployment.
        api_base_url: address of the control plane, which knows the deployment's state.
    """

    base_url: str = attrs.field(validator=_address)
    model_id: str = attrs.field(validator=text(most=255))
    deployment_id: str = attrs.field(validator=text(most=255))
    api_base_url: str = attrs.field(default="https://api.baseten.co", validator=_address)


#: Anything a `SamplingClient` can sample from.
Deployment: TypeAlias = LocalDeployment | BasetenDeployment
