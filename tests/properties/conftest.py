"""How hard the properties are tried: quickly, or with ``LOOPS_HYPOTHESIS=thorough`` for minutes."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick", max_examples=30, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", max_examples=3000, stateful_step_count=200, deadline=None)
settings.load_profile(os.environ.get("LOOPS_HYPOTHESIS", "quick"))
