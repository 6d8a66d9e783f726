"""`ServiceClient` as the service's own package has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import loops_sdk_sync
from loops_sdk_sync._proxy import Proxy
from loops_sdk_sync.baseten.training_client import TrainingClient

__all__ = ["ServiceClient"]


class ServiceClient(loops_sdk_sync.ServiceClient):
    """`loops_sdk_sync.ServiceClient`, whose training clients are those of this package."""

    _given: ClassVar[Mapping[type[Proxy[Any]], type[Proxy[Any]]]] = {loops_sdk_sync.TrainingClient: TrainingClient}
