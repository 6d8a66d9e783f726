"""The smallest pieces of English grammar, and the shape of a conversation.

Decides articles, plurals and lists, and that a conversation is a tuple of role/content messages as every chat template
takes them. Refuses to know which words exist.
"""

from __future__ import annotations

from collections.abc import Sequence

from loops_sdk.local.engine.tiny.lexicon import IRREGULAR_PLURALS, MASS_NOUNS

Message = dict[str, str]
Messages = tuple[Message, ...]


def message(role: str, content: str) -> Message:
    """One message of a conversation; `role` is system, user or assistant."""
    return {"role": role, "content": content}


def ask(question: str, answer: str) -> Messages:
    """One question of the user and one answer of the assistant."""
    return (message("user", question), message("assistant", answer))


def a(noun: str) -> str:
    """The noun with its indefinite article."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """The plural of a noun, irregular ones from the lexicon."""
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    if noun.endswith(("s", "x", "sh", "ch", "ss", "ato")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def some(food: str) -> str:
    """Food in no particular amount: plural if it can be counted."""
    return food if food in MASS_NOUNS else plural(food)


def listed(words: Sequence[str]) -> str:
    """Words as a list in a sentence: "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def sentence(text: str) -> str:
    """The text as a sentence: first letter capital, full stop at the end unless it has a mark of its own."""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")
