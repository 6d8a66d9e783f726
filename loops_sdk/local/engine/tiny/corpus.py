"""The seeded corpus: which kinds of document there are, how often each occurs, and which are held out.

Decides the mix. Refuses to know about tokens: a document is a conversation or a plain text, and the same seed gives the
same documents on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from random import Random
from typing import Final, TypeVar
from zlib import crc32

from loops_sdk.local.engine.tiny import dialogues, instructions, prose, reading, sums
from loops_sdk.local.engine.tiny.wording import Messages, message

T = TypeVar("T")

Document = Messages | str
"""A conversation (messages with role and content) or a plain text."""

_TEXTS: Final[tuple[tuple[int, Callable[[Random], str]], ...]] = (
    (5, prose.story),
    (3, prose.facts),
    (3, prose.actions),
    (2, lambda rng: prose.scene(rng).text),
    (2, lambda rng: prose.notice(rng).text),
    (1, prose.order),
)
_TALKS: Final[tuple[tuple[int, Callable[[Random], Messages]], ...]] = (
    (3, sums.small_sum),
    (3, sums.small_difference),
    (3, sums.larger),
    (2, sums.in_words),
    (4, sums.word_problem),
    (3, sums.comparison),
    (4, sums.counting),
    (2, sums.spelled),
    (5, dialogues.calendar),
    (4, dialogues.opposite),
    (4, dialogues.word_form),
    (6, dialogues.animal),
    (5, dialogues.thing),
    (4, dialogues.kind),
    (4, dialogues.compared),
    (6, dialogues.known_fact),
    (6, instructions.letters),
    (8, instructions.rewritten),
    (4, instructions.composed),
    (8, reading.read),
    (6, reading.informed),
    (6, reading.uninformed),
    (5, dialogues.remembered),
    (3, dialogues.small_talk),
)
_TEXT_SHARE: Final = 0.1
_MANNERS: Final = (
    "You are a helpful assistant.",
    "You are a friendly help desk.",
    "Answer in a few words.",
    "Be kind and short.",
)
_HELD_OUT_ONE_IN: Final = 40


def documents(seed: int, *, held_out: bool = False) -> Iterator[Document]:
    """An endless stream of documents.

    A document belongs to the held-out part if the checksum of its text says so (one in 40), whatever the seed: no
    document of the one part ever occurs word for word in the other.

    Args:
        seed: The same seed gives the same stream.
        held_out: Yield only held-out documents; by default only the others.
    """
    rng = Random(seed)
    while True:
        document = _draw(rng)
        if is_held_out(document) is held_out:
            yield document


def is_held_out(document: Document) -> bool:
    """Whether the document is one of those that training never sees."""
    return crc32(repr(document).encode()) % _HELD_OUT_ONE_IN == 0


def held_out_documents(count: int, seed: int) -> list[Document]:
    """The first `count` held-out documents of a seed: what a model's loss is measured on."""
    return list(islice(documents(seed, held_out=True), count))


def _draw(rng: Random) -> Document:
    if rng.random() < _TEXT_SHARE:
        return _weighted(rng, _TEXTS)(rng)
    return _conversation(rng)


def _conversation(rng: Random) -> Messages:
    """One exchange, sometimes two or three about different matters, sometimes under a system message."""
    exchanges = rng.choices((1, 2, 3), (84, 12, 4))[0]
    turns = [turn for _ in range(exchanges) for turn in _weighted(rng, _TALKS)(rng)]
    if any(turn["role"] == "system" for turn in turns):
        return tuple(turns) if exchanges == 1 else _conversation(rng)
    if rng.random() < 0.08:
        return (message("system", rng.choice(_MANNERS)), *turns)
    return tuple(turns)


def _weighted(rng: Random, options: tuple[tuple[int, T], ...]) -> T:
    return rng.choices([option for _, option in options], [weight for weight, _ in options])[0]
