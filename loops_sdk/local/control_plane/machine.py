"""The machine that everything of an embedded deployment runs on, in the words of the control plane."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from loops_sdk.types import InstanceType

__all__ = ["this_machine"]


@cache
def this_machine() -> InstanceType:
    """Memory, processors and GPUs of the whole machine; nothing is set aside for a single trainer or sampler.

    GPUs are counted by their device files. Which kind they are is not asked: that would load torch.
    """
    return InstanceType(
        id="local",
        name="this machine",
        memory_limit_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        millicpu_limit=1000 * (os.cpu_count() or 1),
        gpu_count=len(list(Path("/dev").glob("nvidia[0-9]*"))),
    )
