"""5,000 samples at once, when an answer takes 200 ms and when it takes 10 s; the limit opens 5,000 connections.

The long ones show that no answer queues behind a limit to the connections.
"""

from __future__ import annotations

from _contest import Contest, Goal
from _mock import Mock
from _samplers import PROMPT, TOKENS, at_once, contestants

if __name__ == "__main__":
    Contest(
        name="sample-5000",
        about=__doc__,
        contestants=contestants(at_once(5000), "raw", "ours", "openai-aiohttp", "tinker", peers_in="cold 200 ms"),
        goals=(
            Goal("wall_s", 1.0, cases=("cold 200 ms",)),
            Goal("cpu_s", 1.0, cases=("cold 200 ms",)),
            Goal("wall_s", 1.1, cases=("cold 10 s",)),
            Goal("wall_s", 8.0, of="tinker", against="ours", at_least=True, cases=("cold 200 ms",)),
            Goal("wall_s", 3.0, of="openai-aiohttp", against="ours", at_least=True, cases=("cold 200 ms",)),
        ),
        cases=("cold 200 ms", "cold 10 s"),
        smoke=("cold 200 ms",),
        server=lambda case: Mock(delay=10.0 if "10 s" in case else 0.2, prompt=len(PROMPT), tokens=TOKENS).serving(),
    ).main()
