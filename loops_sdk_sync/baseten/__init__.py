"""The service's own import path: what scripts import from `baseten.loops`.

Everything is that of `loops_sdk_sync`, but for what the service's package does otherwise: `TrainingClient` and
`ServiceClient` (see there), and two methods of the values (see `models`). Scripts reach it as `baseten.loops` under
``loops run --tinker``, ``python -m loops_sdk_sync.tinker`` or after `loops_sdk_sync.tinker.install`.
"""

import loops_sdk_sync
from loops_sdk_sync import *  # noqa: F403
from loops_sdk_sync.baseten import models as types
from loops_sdk_sync.baseten.service_client import ServiceClient
from loops_sdk_sync.baseten.training_client import TrainingClient

__all__ = ["ServiceClient", "TrainingClient", "types"]
__all__ += loops_sdk_sync.__all__
