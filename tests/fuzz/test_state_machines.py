"""The machines of tests/properties for as many steps as the size of the session wants: up to 25 for every case."""

from __future__ import annotations

import test_polling
import test_submitting
from fuzz_figures import CASES, figures
from hypothesis import settings
from hypothesis.stateful import invariant

_STEPS_OF_A_RUN = 100
_SIZE = settings(max_examples=max(1, 25 * CASES // _STEPS_OF_A_RUN), stateful_step_count=_STEPS_OF_A_RUN)


class CountedPolling(test_polling.PollingMachine):
    @invariant()
    def counted(self) -> None:
        figures["steps of polling"] += 1


class CountedSubmitting(test_submitting.Line):
    @invariant()
    def counted(self) -> None:
        figures["steps of submitting"] += 1


TestPolling = CountedPolling.TestCase
TestPolling.settings = _SIZE
TestSubmitting = CountedSubmitting.TestCase
TestSubmitting.settings = _SIZE
