"""The size of a session, from ``LOOPS_FUZZ``, and what the line at its end says."""

from __future__ import annotations

import os
from collections import Counter

#: Hostile answers and hostile requests together.
CASES = int(os.environ.get("LOOPS_FUZZ", "500"))
ANSWERS = CASES * 3 // 5
REQUESTS = CASES - ANSWERS

figures: Counter[str] = Counter()
