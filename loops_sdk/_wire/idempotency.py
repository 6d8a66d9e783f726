"""One key per logical operation: made once, sent with every attempt, remembered by the server with what it stood
for.
"""

from __future__ import annotations

import hashlib
import uuid

HEADER = "Idempotency-Key"


def new_key() -> str:
    """A fresh key for one logical operation."""
    return uuid.uuid4().hex


def fingerprint(path: str, body: bytes) -> bytes:
    """What a key stood for: the same key with another fingerprint is a mistake of the caller
    (draft-ietf-httpapi-idempotency-key).
    """
    return hashlib.blake2b(body, key=path.encode()[:64], digest_size=16).digest()
