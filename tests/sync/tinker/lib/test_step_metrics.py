"""What `optim_step` reports, as scripts log it."""

from __future__ import annotations

import loops_sdk
from loops_sdk_sync.tinker.lib.public_interfaces.training_client import _stepped


def test_no_metric_of_a_step_is_taken_for_the_number_of_the_scripts_own() -> None:
    metrics = _stepped(loops_sdk.OptimStepResponse({"step": 1.0, "grad_norm": 0.5})).metrics
    assert metrics == {"step:mean": 1.0, "grad_norm:mean": 0.5}
    assert {"step": 0, **metrics}["step"] == 0
