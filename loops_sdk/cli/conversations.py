"""Conversations from a JSONL file as training examples: only what the assistant says is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from loops_sdk import Datum, InvalidInputError, ModelInput

IGNORE = -100
Message = dict[str, str]


def read(path: Path) -> list[list[Message]]:
    """The conversations of a file with one ``{"messages": [{"role", "content"}, ...]}`` per line."""
    lines = [line for line in path.read_bytes().splitlines() if line.strip()]
    return [_messages(path, number, line) for number, line in enumerate(lines, 1)]


def _messages(path: Path, number: int, line: bytes) -> list[Message]:
    try:
        messages: list[Message] = orjson.loads(line)["messages"]
        roles = [message["role"] for message in messages if message["content"]]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"{path.name}:{number}: expected an object with a list of messages ({error!r})"
        ) from None
    if roles[-1:] != ["assistant"]:
        raise InvalidInputError(f"{path.name}:{number}: expected the last message to be the assistant's")
    return messages


def prompt_tokens(tokenizer: Any, messages: list[Message]) -> list[int]:
    """The rendered conversation, up to where the assistant begins to speak."""
    tokens: list[int] = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return tokens


def to_datum(tokenizer: Any, messages: list[Message]) -> Datum:
    """A training example of the last answer: its tokens are targets, everything before them is context.

    Raises:
        InvalidInputError: the chat template renders the prompt differently once the answer follows.
    """
    prompt = prompt_tokens(tokenizer, messages[:-1])
    whole: list[int] = tokenizer.apply_chat_template(messages, return_dict=False)
    if whole[: len(prompt)] != prompt:
        raise InvalidInputError(
            "messages: this chat template does not render a prompt as the beginning of the conversation"
        )
    targets = [IGNORE] * (len(prompt) - 1) + whole[len(prompt) :]
    return Datum(ModelInput.from_ints(whole[:-1]), {"target_tokens": targets})


def learned_tokens(data: list[Datum]) -> int:
    """Number of positions that carry loss."""
    return sum(int((datum.loss_fn_inputs["target_tokens"].data != IGNORE).sum()) for datum in data)
