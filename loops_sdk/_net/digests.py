"""What a server says that a file's content comes to, whichever part of it an answer brings, and whether bytes on the
disk are that content.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import attrs

#: Checksums of a whole file: the standard's (RFC 9530), and S3's. That of an upload in parts is of something else, ends
#: in ``-`` and the number of parts, and does not match.
_SAID = (
    ("Repr-Digest", re.compile(r"\bsha-256=:([A-Za-z0-9+/=]{44}):")),
    ("x-amz-checksum-sha256", re.compile(r"^([A-Za-z0-9+/=]{44})$")),
)


@attrs.frozen
class Digest:
    """The SHA-256 of a file."""

    value: bytes

    @classmethod
    def said(cls, headers: Mapping[str, str]) -> Digest | None:
        """The one that an answer tells, if it does."""
        for name, form in _SAID:
            if match := form.search(headers.get(name, "")):
                try:
                    return cls(base64.b64decode(match[1], validate=True))
                except binascii.Error:
                    continue
        return None

    def is_of(self, path: Path) -> bool:
        """Whether the file has this content."""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest() == self.value
