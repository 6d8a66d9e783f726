"""Tokenizers of one token per character, with chat templates as functions: what each template does can be read here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Messages = Sequence[Mapping[str, Any]]
SPECIAL = ["<bos>", "<|im_start|>", "<|im_end|>", "<|start_header|>", "<|end_header|>", "<|eot|>"]
_FIRST = 10


class CharacterTokenizer:
    """Special tokens have the ids from 10 on, characters those after them."""

    def __init__(self, template: Callable[[Messages, bool], str]) -> None:
        self.template = template
        self.tools: Any = None

    def encode(self, text: str) -> list[int]:
        tokens = []
        while text:
            special = next((mark for mark in SPECIAL if text.startswith(mark)), None)
            tokens.append(_FIRST + SPECIAL.index(special) if special else _FIRST + len(SPECIAL) + ord(text[0]))
            text = text[len(special or "x") :]
        return tokens

    def decode(self, token_ids: list[int], skip_special_tokens: bool = False) -> str:
        shown = [SPECIAL, [""] * len(SPECIAL)][skip_special_tokens]
        ids = [token - _FIRST for token in token_ids]
        return "".join(shown[one] if one < len(SPECIAL) else chr(one - len(SPECIAL)) for one in ids)

    def apply_chat_template(
        self,
        conversation: Messages,
        tools: Any = None,
        *,
        add_generation_prompt: bool = False,
        return_dict: bool = True,
    ) -> list[int]:
        assert not return_dict, "transformers 5 gives a dict unless told otherwise"
        self.tools = tools
        return self.encode(self.template(conversation, add_generation_prompt))


def chatml(messages: Messages, opened: bool) -> str:
    """As Qwen 2.5 and many others: a line break behind every turn."""
    turns = [f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages]
    return "".join(turns) + ("<|im_start|>assistant\n" if opened else "")


def llama(messages: Messages, opened: bool) -> str:
    """As Llama 3: a token before all, contents without white space around them, nothing behind a turn."""
    turns = [
        f"<|start_header|>{message['role']}<|end_header|>\n\n{message['content'].strip()}<|eot|>"
        for message in messages
    ]
    return "<bos>" + "".join(turns) + ("<|start_header|>assistant<|end_header|>\n\n" if opened else "")


def plain(messages: Messages, opened: bool) -> str:
    """Without special tokens: a line break is all that ends a turn."""
    turns = [f"{message['role']}: {message['content']}\n" for message in messages]
    return "".join(turns) + ("assistant: " if opened else "")


def forgetful(messages: Messages, opened: bool) -> str:
    """As Qwen 3: what the assistant thought in earlier turns is left out once the user has spoken again."""
    last = max((index for index, message in enumerate(messages) if message["role"] == "user"), default=-1)
    return chatml([_without_thoughts(message) if at < last else message for at, message in enumerate(messages)], opened)


def _without_thoughts(message: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**message, "content": message["content"].split("</think>")[-1].lstrip("\n")}


def thinking_ahead(messages: Messages, opened: bool) -> str:
    """As DeepSeek R1: the prompt opens a thought that the rendered conversation does not have."""
    return chatml(messages, opened) + ("<think>\n" if opened else "")
