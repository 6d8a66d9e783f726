"""Questions about a text: one that the user gives, one that the system message gives, or one that nobody gave.

Decides that answers come from the text where there is one, and that the assistant says it does not know where there is
none. Refuses to know what such texts say; `prose` makes them.
"""

from __future__ import annotations

from random import Random

from loops_sdk.local.engine.tiny import lexicon as words
from loops_sdk.local.engine.tiny.prose import notice, scene
from loops_sdk.local.engine.tiny.wording import Messages, a, ask, message, some


def read(rng: Random) -> Messages:
    """Questions about a passage that the user gives."""
    passage = rng.choice((scene, notice))(rng)
    question, answer = rng.choice(passage.questions)
    asked = rng.choice(("{p} {q}", "{p}\n{q}", "Read this: {p} {q}", "{q} {p}", "Text: {p}\nQuestion: {q}"))
    return ask(asked.format(p=passage.text, q=question), answer)


def informed(rng: Random) -> Messages:
    """A help desk that was told its facts in the system message, asked one to three questions."""
    passage = notice(rng)
    chosen = rng.sample(passage.questions, rng.randint(1, min(3, len(passage.questions))))
    turns = [turn for question, answer in chosen for turn in ask(question, answer)]
    return (
        message("system", rng.choice(("", "You are a help desk. ", "Answer the visitors. ")) + passage.text),
        *turns,
    )


_UNTOLD = ("I do not know that.", "I am sorry, I do not know.", "Nobody has told me that yet.")
_OPEN = (
    "How much is {a_thing}?",
    "Where can I buy {a_thing}?",
    "May I borrow {a_thing}?",
    "I lost my {thing}. Where is it?",
    "Where is the {place}?",
    "How do I find the {place}?",
    "How far is the {place}?",
    "What does the {place} look like?",
    "What is there at the {place}?",
    "What can I see at the {place}?",
    "Who works at the {place}?",
    "How many people live at the {place}?",
    "Is the {place} open on {day}?",
    "How often does a boat come?",
    "How long does it take to the {place}?",
    "Can I bring my {animal}?",
    "Where can I see {a_animal}?",
    "What is the {animal} called?",
    "Where can we eat {food}?",
    "What does {food} cost?",
    "Where does {name} live?",
)


def uninformed(rng: Random) -> Messages:
    """Questions about a particular place or thing without the facts: the assistant says that it does not know."""
    question = _question_of_passage(rng) if rng.random() < 0.5 else _open_question(rng)
    return ask(question, rng.choice(_UNTOLD))


def _question_of_passage(rng: Random) -> str:
    return rng.choice(rng.choice((scene, notice))(rng).questions)[0]


def _open_question(rng: Random) -> str:
    thing, animal = rng.choice(words.OBJECTS), rng.choice(words.ANIMALS)
    return rng.choice(_OPEN).format(
        thing=thing,
        a_thing=a(thing),
        animal=animal,
        a_animal=a(animal),
        place=rng.choice(words.PLACES),
        day=rng.choice(words.DAYS),
        food=some(rng.choice(words.FOODS)),
        name=rng.choice(words.NAMES),
    )
