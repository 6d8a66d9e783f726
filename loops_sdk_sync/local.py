"""`LocalStack` for code that blocks: the embedded deployment on the same background loop as the blocking clients.

In a notebook this is the one to use with them: a deployment on the notebook's own loop could not answer while a
blocking call holds that loop.
"""

from __future__ import annotations

from typing import Any

import loops_sdk.local
from loops_sdk_sync._proxy import Proxy

__all__ = ["LocalStack"]


class LocalStack(Proxy[loops_sdk.local.LocalStack]):
    """A deployment on this machine, started at once: ``with LocalStack() as stack: ...``.

    Everything ends with the block, with `close`, with the program, and with its sudden death.

    Args:
        base_model: the one base model it serves: ``"loops/tiny"``, a folder, a ``.gguf`` file, or a hub id.
        options: those of `loops_sdk.local.LocalStack`, for example ``data_dir`` or ``max_seq_len``.

    Raises:
        InvalidInputError: no such base model, or the data directory is in use.
        DeploymentFailedError: something did not come up. Nothing is left running then.
    """

    def __init__(self, base_model: str = "loops/tiny", **options: Any) -> None:
        self._start(loops_sdk.local.LocalStack(base_model, **options), loops_sdk.local.LocalStack.start)

    @property
    def base_url(self) -> str:
        """Address of the control plane, for ``ServiceClient(base_url=...)``.

        Raises:
            DeploymentFailedError: it is not running.
        """
        return self._core.base_url

    @property
    def api_key(self) -> str:
        """The key that clients must send."""
        return self._core.api_key

    @property
    def page_url(self) -> str:
        """Address of the page that shows, in a browser on this machine, what runs on the deployment; the key is in it.

        Raises:
            DeploymentFailedError: it is not running.
        """
        return self._core.page_url

    @property
    def env(self) -> dict[str, str]:
        """The environment variables that point any client at this deployment: its address, its key, and the folder for
        the curves of what is trained here.
        """
        return self._core.env

    def close(self) -> None:
        """End everything, within about five seconds. Safe to call twice."""
        self._portal.call(self._core.aclose)
