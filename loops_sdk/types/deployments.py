"""Where a sampler runs."""

from __future__ import annotations

import attrs

from loops_sdk.types._checks import check_address

__all__ = ["LocalDeployment"]


@attrs.frozen
class LocalDeployment:
    """A sampler that is simply there, at an address: an embedded one, or any vLLM server that you started yourself.

    Args:
        base_url: address of the server, to which ``/v1/completions`` is appended.
    """

    base_url: str = attrs.field(validator=lambda _self, attribute, value: check_address(attribute.name, value))
