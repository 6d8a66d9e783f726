"""1,000 samples at once from a server that takes 200 ms: with and without open connections, plain and over TLS."""

from __future__ import annotations

from _contest import Contest, Goal
from _mock import Mock
from _samplers import PROMPT, TOKENS, at_once, contestants

if __name__ == "__main__":
    Contest(
        name="sample-1000",
        about=__doc__,
        contestants=contestants(
            at_once(1000), "raw", "ours", "openai", "openai-aiohttp", "tinker", peers_in="cold plain"
        ),
        goals=(
            Goal("wall_s", 1.2),
            Goal("p99_s", 1.2),
            Goal("cpu_s", 1.2),
            Goal("rss_mib", 1.3, cases=("cold plain", "cold tls")),
        ),
        cases=("cold plain", "warm plain", "cold tls", "warm tls"),
        smoke=("warm plain", "cold tls"),
        server=lambda case: Mock(delay=0.2, prompt=len(PROMPT), tokens=TOKENS, tls="tls" in case).serving(),
    ).main()
