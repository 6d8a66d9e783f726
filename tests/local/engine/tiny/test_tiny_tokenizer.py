"""The shipped tokenizer: any text survives, digits stand alone, conversations render by their prefixes."""

from __future__ import annotations

from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from loops_sdk.local.engine.tiny import WEIGHTS
from loops_sdk.local.engine.tiny.corpus import held_out_documents
from loops_sdk.local.engine.tiny.tokenizer import END, PAD, render, train_tokenizer
from loops_sdk.local.engine.tiny.wording import Messages, message

TOKENIZER: Any = AutoTokenizer.from_pretrained(WEIGHTS)

conversations = st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), min_size=1, max_size=3).map(
    lambda pairs: tuple(turn for q, a in pairs for turn in (message("user", q), message("assistant", a)))
)


@given(st.text())
def test_any_text_round_trips(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(st.integers(min_value=0))
def test_every_digit_is_a_token(number: int) -> None:
    assert len(TOKENIZER.encode(str(number))) == len(str(number))


def test_special_tokens_are_distinct_and_single() -> None:
    assert TOKENIZER.eos_token == END
    assert TOKENIZER.pad_token == PAD
    assert TOKENIZER.bos_token is None
    ids = [TOKENIZER.encode(token) for token in (PAD, END, "<|system|>", "<|user|>", "<|assistant|>")]
    assert all(len(one) == 1 for one in ids)
    assert len({one[0] for one in ids}) == len(ids)


@settings(max_examples=30)
@given(conversations)
def test_rendering_of_a_prefix_is_a_prefix_of_the_rendering(chat: Messages) -> None:
    whole = TOKENIZER.apply_chat_template(chat, return_dict=True)["input_ids"]
    for end in range(1, len(chat), 2):
        start = TOKENIZER.apply_chat_template(chat[:end], add_generation_prompt=True, return_dict=True)["input_ids"]
        assert whole[: len(start)] == start


@settings(max_examples=30)
@given(conversations)
def test_assistant_mask_covers_exactly_what_the_assistant_says(chat: Messages) -> None:
    rendered = TOKENIZER.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    said = [i for i, mine in zip(rendered["input_ids"], rendered["assistant_masks"], strict=True) if mine]
    assert TOKENIZER.decode(said) == "".join(turn["content"] + END for turn in chat[1::2])


def test_training_renders_as_the_chat_template_does() -> None:
    chats = [document for document in held_out_documents(50, 1) if not isinstance(document, str)]
    assert [TOKENIZER.apply_chat_template(chat, tokenize=False) for chat in chats] == [render(chat) for chat in chats]


def test_unknown_role_is_refused_by_name() -> None:
    with pytest.raises(jinja2.TemplateError, match="role must be system, user or assistant, not tool"):
        TOKENIZER.apply_chat_template([message("tool", "x")])


def test_training_a_tokenizer_is_deterministic() -> None:
    texts = [render(document) for document in held_out_documents(50, 2)]
    one, two = (train_tokenizer(texts, 400, 64) for _ in range(2))
    assert one.get_vocab() == two.get_vocab()
    assert len(one) == 400
