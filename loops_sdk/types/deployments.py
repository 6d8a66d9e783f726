"""Where a sampler runs."""

from __future__ import annotations

import attrs

__all__ = ["LocalDeployment"]


@attrs.frozen
class LocalDeployment:
    """A sampler that is simply there, at an address: an embedded one, or any vLLM server that you started yourself.

    Args:
        base_url: address of the server, to which ``/v1/completions`` is appended.
    """

    base_url: str
