"""Addresses that prove themselves: what a file's address names and until when it is good are signed with HMAC-SHA256
(RFC 2104).

Whoever has such an address may fetch this one file for a while, without a key. The secret lives as long as the
deployment and never leaves it. What lies at an address is not this module's business.
"""

from __future__ import annotations

import hmac
import math
import secrets
import time
from collections.abc import Callable, Mapping
from urllib.parse import quote

from loops_sdk.errors import PermissionDeniedError

__all__ = ["FILE_PATH", "Signer"]

#: The route behind the addresses.
FILE_PATH = "/files/{run_id}/{save}/{name:.+}"


class Signer:
    """Makes addresses of files and checks those that come back.

    Args:
        lifetime: seconds that an address is good for.
        clock: seconds since the epoch.
    """

    def __init__(self, lifetime: float = 900.0, *, clock: Callable[[], float] = time.time) -> None:
        self._lifetime, self._clock = lifetime, clock
        self._secret = secrets.token_bytes(32)

    def path(self, run_id: str, save: str, name: str, *, at_latest: float | None = None) -> str:
        """Path and query of a file's address.

        Args:
            at_latest: seconds since the epoch after which it must not be good any more.
        """
        until = self._clock() + self._lifetime
        expires = str(math.ceil(until if at_latest is None else min(until, at_latest)))
        path = f"/files/{quote(run_id, safe='')}/{quote(save, safe='')}/{quote(name)}"
        return f"{path}?expires={expires}&signature={self._signature(run_id, save, name, expires)}"

    def check(self, run_id: str, save: str, name: str, given: Mapping[str, str]) -> None:
        """Let pass what `path` has signed and time has not undone.

        Args:
            given: the query of the address.

        Raises:
            PermissionDeniedError: 403; the message says whether it has been altered or has expired.
        """
        expires = given.get("expires", "")
        expected = self._signature(run_id, save, name, expires)
        if not hmac.compare_digest(given.get("signature", "").encode("utf-8", "replace"), expected.encode()):
            text = "the signature of this address is not right: it is not complete, or has been altered"
            raise PermissionDeniedError(f"{text}; ask for the files again", status=403)
        if self._clock() >= int(expires):
            raise PermissionDeniedError("this address has expired; ask for the files again", status=403)

    def _signature(self, *named: str) -> str:
        return hmac.new(self._secret, "\0".join(named).encode("utf-8", "surrogatepass"), "sha256").hexdigest()
