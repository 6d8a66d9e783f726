"""The tokenizer of `loops/tiny`: byte-level BPE, digits one by one, a chat template.

Decides the special tokens and how a conversation is rendered. Every text survives encoding and decoding, since bytes
are the alphabet. Refuses to know what the corpus says; it only counts which bytes stand together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from loops_sdk.local.engine.tiny.corpus import Document

PAD: Final = "<|pad|>"
END: Final = "<|end|>"
ROLES: Final = {role: f"<|{role}|>" for role in ("system", "user", "assistant")}

CHAT_TEMPLATE: Final = """\
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{- '<|assistant|>' -}}{%- generation -%}{{- message['content'] + '<|end|>' -}}{%- endgeneration -%}
{%- elif message['role'] in ['system', 'user'] -%}
{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}
{%- else -%}
{{- raise_exception('role must be system, user or assistant, not ' + message['role']) -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


def render(document: Document) -> str:
    """The text of a document with its special tokens: what the chat template gives, or plain text and its end."""
    if isinstance(document, str):
        return document + END
    return "".join(ROLES[turn["role"]] + turn["content"] + END for turn in document)


def train_tokenizer(texts: Iterable[str], size: int, max_length: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on rendered documents.

    Args:
        texts: Rendered documents.
        size: Number of entries, special tokens and the 256 bytes included.
        max_length: The context that the tokenizer states for its model.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(texts, _trainer(size))
    fast: Any = PreTrainedTokenizerFast  # its constructor is untyped
    tokenizer: PreTrainedTokenizerFast = fast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=list(ROLES.values()),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=max_length,
        padding_side="left",
    )
    return tokenizer


def _trainer(size: int) -> trainers.BpeTrainer:
    return trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, END, *ROLES.values()],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
