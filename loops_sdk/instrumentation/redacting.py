"""What must not be read in a log: which parts of a text are secret, and how records are rid of them.

It decides what counts as a secret: keys that clients of this process use, whatever stands where keys, tokens and
signatures usually stand, and a few forms that nothing else has. Who logs, and where to, is not known here.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import quote

__all__ = ["RedactingFilter", "keep_out_of_logs", "logger", "redacted"]

_BLANK = "[redacted]"
#: Keys that are shorter are words, not secrets.
_SHORTEST_KEY = 16
_known: dict[str, tuple[str, ...]] = {}

#: Attributes of every record, none of which a caller has given.
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_SECRET_NAME = r"[\w-]*(?:api[_-]?key|secret|passw(?:or)?d|(?:access|auth|session|security|refresh|hf)[_-]?token)[\w-]*"
_SIGNATURE = (
    r"x-(?:amz|goog)-(?:signature|credential|security-token)|signature|sig|awsaccesskeyid|googleaccessid|key-pair-id|"
    r"token|key|access_token|" + _SECRET_NAME
)
#: Where a value ends that is not quoted.
_BARE = r"[^\s\"'\\&,;<>(){}\[\]]+"
_QUOTED = r"\\*\"(?:[^\"\\]|\\(?!\"\W)[^\n])*|\\*'(?:[^'\\]|\\.)*"


def keep_out_of_logs(key: str) -> None:
    """Let no log show this key, wherever it turns up. Keys of fewer than 16 characters are words, and stay."""
    if len(key) >= _SHORTEST_KEY and key not in _known:
        forms = {key, repr(key)[1:-1], json.dumps(key)[1:-1], quote(key, safe="")}
        _known[key] = tuple(sorted(forms, key=len, reverse=True))


def redacted(text: str) -> str:
    """`text` with ``[redacted]`` in the place of secrets.

    Secret are: the keys of all clients of this process, in any place; the values of ``Authorization`` headers and
    bearer tokens; signatures, credentials and keys in the query or fragment of an address, and a password before its
    host; what is assigned to a name like ``api_key``, ``password`` or ``access_token``; tokens of the forms that
    Hugging Face, AWS and others give theirs.

    Args:
        text: anything.
    """
    for forms in list(_known.values()):
        for form in forms:
            text = text.replace(form, _BLANK)
    for pattern in _patterns():
        text = pattern.sub(_kept, text)
    return text


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    """Each keeps its groups and blanks the rest. Compiled when first needed: most programs log nothing."""
    scheme = r"(?:bearer|api-key|basic|token)\s+"
    name = rf"({_SECRET_NAME})"
    return tuple(
        re.compile(pattern, re.IGNORECASE)
        for pattern in (
            rf"(authorization\W{{0,4}}(?:[:=]|[\"'],)\W{{0,4}}(?:b\W)?(?:{scheme})?){_BARE}",
            r"\b((?:bearer|api-key)\s+)[\w.~+/=-]{8,}",
            rf"([?&;#](?:{_SIGNATURE})=)[^&\s\"'<>#\\]+",
            r"(://)[^\s/@\"'?#]+(?=@)",
            rf"{name}(\\*[\"']?\s*(?:=>|=|:)\s*\\*)(?:{_QUOTED})",
            rf"{name}(\s*=\s*){_BARE}",
            # A colon without quotes is as likely the beginning of a sentence: secrets have digits, or no end.
            rf"{name}(\\*[\"']?\s*:\s*)(?:(?=\D{{0,40}}\d){_BARE}|[\w.~+/=-]{{20,}})",
            r"()(?:hf_[a-z0-9]{16,}|\bsk-[\w-]{16,}|gh[pousr]_\w{16,}|\b(?:AKIA|ASIA)[0-9A-Z]{16})",
        )
    )


def _kept(match: re.Match[str]) -> str:
    return "".join(part or "" for part in match.groups()) + _BLANK


class RedactingFilter(logging.Filter):
    """A filter that rids records of secrets, in message, arguments, extra attributes, exception and stack; it lets all
    of them through. What `redacted` calls a secret is one here.

    The loggers of this package have one. A service gives one to its handlers, where it covers every logger:

        for handler in logging.getLogger().handlers:
            handler.addFilter(RedactingFilter())

    A record without a secret stays as it is. One with a secret in its message or arguments keeps the finished message
    and loses its arguments; one with a secret in its exception keeps the text of the traceback (``exc_text``) and loses
    ``exc_info``. Later handlers see the record as it was left here.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Rid a record of secrets; always true.

        Args:
            record: the record.
        """
        _rid_message(record)
        _rid_exception(record)
        vars(record).update(cleaned({name: value for name, value in vars(record).items() if name not in STANDARD}))
        return True


_redacting = RedactingFilter()


def logger(name: str) -> logging.Logger:
    """The logger of this name, whose records are rid of secrets before any handler sees them.

    A filter of a logger does not hold for the loggers below it, so every module of ours takes its own from here.
    """
    log = logging.getLogger(name)
    log.addFilter(_redacting)  # the same one each time, of which a logger keeps one
    return log


def _rid_message(record: logging.LogRecord) -> None:
    try:
        message = record.getMessage()
    except Exception:  # arguments that do not fit: logging would print them, each in full
        record.msg, record.args = redacted(f"{record.msg!r} with the arguments {record.args!r}"), None
        return
    told = f"{message}\n{record.args!r}"
    if redacted(told) != told:
        record.msg, record.args = redacted(message), None


def _rid_exception(record: logging.LogRecord) -> None:
    if record.exc_info and record.exc_info[1] is not None:
        text = "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n")
        if redacted(text) != text:
            record.exc_info, record.exc_text = None, redacted(text)
    if record.exc_text:
        record.exc_text = redacted(record.exc_text)
    if record.stack_info:
        record.stack_info = redacted(record.stack_info)


def cleaned(value: Any) -> Any:
    """A value without secrets: containers item by item, another one as its text if that shows any. What has none comes
    back as it is.
    """
    if isinstance(value, dict):
        return dict(_cleaned_items(value))
    if isinstance(value, list | tuple | set | frozenset):
        items = [(item, cleaned(item)) for item in value]
        return value if all(item is clean for item, clean in items) else [clean for _, clean in items]
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    clean = redacted(text)
    return value if clean == text else clean


def _cleaned_items(mapping: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """A name may say that its value is a secret, which cannot be seen of the value alone."""
    for name, value in mapping.items():
        together = f"{name}={value}"
        bare = isinstance(value, str) and redacted(together) != together and redacted(value) == value
        yield cleaned(name), _BLANK if bare else cleaned(value)
