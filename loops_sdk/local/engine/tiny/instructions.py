"""Instructions: spell, repeat, reverse, capitalise, sort, make up a sentence or a story.

Decides which instructions the model learns to follow and how they are phrased. Refuses to know how often each occurs.
"""

from __future__ import annotations

from random import Random

from loops_sdk.local.engine.tiny import lexicon as words
from loops_sdk.local.engine.tiny.prose import action, fact, story
from loops_sdk.local.engine.tiny.wording import Messages, ask


def letters(rng: Random) -> Messages:
    """Spelling, first and last letters, counting letters."""
    word = rng.choice(words.OBJECTS + words.ANIMALS + words.FOODS + words.COLOURS + words.PLACES)
    match rng.randrange(5):
        case 0:
            return ask(f"Spell {word}.", "-".join(word))
        case 1:
            return ask(f"What is the first letter of {word}?", word[0])
        case 2:
            return ask(f"What is the last letter of {word}?", word[-1])
        case 3:
            return ask(f"How many letters does {word} have?", str(len(word)))
        case _:
            return ask(f"Which word is this: {'-'.join(word)}?", word)


def rewritten(rng: Random) -> Messages:
    """Instructions to repeat, reverse, capitalise, sort, or pick words of a text."""
    row = rng.sample(words.OBJECTS + words.FOODS + words.ANIMALS, rng.randint(2, 4))
    text = " ".join(row)
    said = action(rng)
    count = rng.randint(2, 4)
    options = (
        (f"Repeat: {said}", said),
        (f"Repeat after me: {text}", text),
        (f"Reverse the words: {text}", " ".join(reversed(row))),
        (f"Say it in capitals: {text}", text.upper()),
        (f"Write in capital letters: {row[0]}", row[0].upper()),
        (f"Write in small letters: {text.upper()}", text),
        (f"What is the first word: {text}?", row[0]),
        (f"What is the last word: {text}?", row[-1]),
        (f"How many words are there: {text}?", str(len(row))),
        (f"Sort by the alphabet: {text}", " ".join(sorted(row))),
        (f"Say {row[0]} {count} times.", " ".join([row[0]] * count)),
        (f"Put commas between the words: {text}", ", ".join(row)),
        (f"Say this with an exclamation mark: {said}", said[:-1] + "!"),
    )
    return ask(*rng.choice(options))


def composed(rng: Random) -> Messages:
    """Requests for a sentence, a fact or a story."""
    match rng.randrange(4):
        case 0:
            return ask(rng.choice(("Say something.", "Write a sentence.", "Tell me about somebody.")), action(rng))
        case 1:
            return ask(rng.choice(("Tell me a fact.", "Do you know something?", "Teach me something.")), fact(rng))
        case 2:
            return ask(
                rng.choice(("Tell me a story.", "Write a short story.", "I would like to hear a story.")), story(rng)
            )
        case _:
            name = rng.choice(words.NAMES)
            return ask(
                f"Tell me a story about {name}.",
                f"Once there was a child called {name}. " + action(rng).replace("They", name),
            )
