"""What a conversation is: a list of messages with a role and a text. Whether a template can render it is not known
here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loops_sdk.errors import InvalidInputError
from loops_sdk.types._checks import shown

Message = Mapping[str, Any]

#: Templates render a role that they do not know as it stands, so a misspelt one would be learned by nobody.
ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
_EXAMPLE = "[{'role': 'user', 'content': 'Hello!'}]"


def checked(messages: Any) -> list[Message]:
    """The messages as a list.

    Raises:
        InvalidInputError: not a sequence of messages, naming the first that is wrong and what is wrong with it.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise InvalidInputError(f"messages: expected a list of messages such as {_EXAMPLE}, got {shown(messages)}")
    for index, message in enumerate(messages):
        _check(message, f"messages[{index}]")
    return list(messages)


def _check(message: Any, where: str) -> None:
    if not isinstance(message, Mapping):
        raise InvalidInputError(f"{where}: expected a dict with 'role' and 'content', got {shown(message)}")
    if "role" not in message:
        raise InvalidInputError(f"{where}: has no 'role', only {_keys(message)}; expected 'role' and 'content'")
    if message["role"] not in ROLES:
        raise InvalidInputError(f"{where}['role']: expected one of {', '.join(ROLES)}, got {shown(message['role'])}")
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        return  # an assistant that calls a tool and says nothing
    if content is None:
        raise InvalidInputError(f"{where}: has no 'content', only {_keys(message)}; expected a text there")
    if not isinstance(content, str):
        raise InvalidInputError(
            f"{where}['content']: expected text, got {shown(content)}; what is more than text, as images are, goes "
            "into a ModelInput of chunks made by hand"
        )


def _keys(message: Message) -> str:
    return ", ".join(repr(key) for key in message) or "nothing"
