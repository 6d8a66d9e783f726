"""Plain text: scenes, short stories, descriptions and lists of facts, without any chat format.

Decides what the model reads besides conversations, and what can be asked about what it has read. Refuses to know how
questions and answers are turned into messages.
"""

from __future__ import annotations

from random import Random

import attrs

from loops_sdk.local.engine.tiny import lexicon as words
from loops_sdk.local.engine.tiny.wording import a, listed, plural, sentence, some


@attrs.frozen
class Passage:
    """A short text and the questions it answers, as (question, answer) pairs."""

    text: str
    questions: tuple[tuple[str, str], ...]


def scene(rng: Random) -> Passage:
    """One person in one place with one thing; every sentence answers one question."""
    name, place, weather = rng.choice(words.NAMES), rng.choice(words.PLACES), rng.choice(words.WEATHERS)
    colour, thing, animal = rng.choice(words.COLOURS), rng.choice(words.OBJECTS), rng.choice(words.ANIMALS)
    day, feeling = rng.choice(words.DAYS), rng.choice(words.FEELINGS)
    told = [
        (f"{name} was at the {place}.", f"Where was {name}?", f"{name} was at the {place}."),
        (f"It was a {weather} day.", "How was the weather?", f"It was {weather}."),
        (f"{name} had {a(colour)} {thing}.", f"What colour was the {thing}?", f"The {thing} was {colour}."),
        (f"There was {a(animal)} too.", "Which animal was there?", f"There was {a(animal)}."),
        (f"It happened on {day}.", "When did it happen?", f"It happened on {day}."),
        (f"{name} felt {feeling}.", f"How did {name} feel?", f"{name} felt {feeling}."),
        (
            f"{name} liked to eat {(food := some(rng.choice(words.FOODS)))}.",
            f"What did {name} like to eat?",
            f"{name} liked {food}.",
        ),
    ]
    chosen = told[:1] + rng.sample(told[1:], rng.randint(1, 4))
    return Passage(" ".join(t for t, _, _ in chosen), tuple((q, answer) for _, q, answer in chosen))


def notice(rng: Random) -> Passage:
    """What a visitor may want to know about a place: hours, prices, people and rules."""
    place, name, animal = rng.choice(words.PLACES), rng.choice(words.NAMES), rng.choice(words.ANIMALS)
    opens, closes = rng.choice(words.NUMBER_WORDS[6:12]), rng.choice(words.NUMBER_WORDS[3:10])
    day, coins = rng.choice(words.DAYS), rng.choice(words.NUMBER_WORDS[2:15])
    food, thing = some(rng.choice(words.FOODS)), rng.choice(words.OBJECTS)
    free = rng.choice(("children", "babies", "dogs", "teachers", "sailors"))
    told = [
        (f"The {place} opens at {opens}.", _when_open(rng, place), f"The {place} opens at {opens}."),
        (
            f"It closes at {closes} in the evening.",
            f"When does the {place} close?",
            f"It closes at {closes} in the evening.",
        ),
        (f"It is closed on {day}.", f"On which day is the {place} closed?", f"It is closed on {day}."),
        (f"A ticket costs {coins} coins.", _how_much(rng), f"A ticket costs {coins} coins."),
        (f"{name} looks after the {place}.", f"Who looks after the {place}?", f"{name} looks after the {place}."),
        (f"The shop sells {food}.", "What does the shop sell?", f"The shop sells {food}."),
        (f"Visitors may see {a(animal)}.", "What may visitors see?", f"Visitors may see {a(animal)}."),
        (f"It is free for {free}.", "Who may come in free?", f"It is free for {free}."),
        (f"Please bring {a(thing)}.", "What should I bring?", f"Please bring {a(thing)}."),
        (f"A boat leaves at {closes}.", "When does the boat leave?", f"The boat leaves at {closes}."),
    ]
    chosen = rng.sample(told, rng.randint(2, 5))
    chosen[0] = (chosen[0][0].replace("It ", f"The {place} ", 1), *chosen[0][1:])
    return Passage(" ".join(t for t, _, _ in chosen), tuple((q, answer) for _, q, answer in chosen))


def _when_open(rng: Random, place: str) -> str:
    return rng.choice(("When does the {} open?", "At what time does the {} open?", "When can I visit the {}?")).format(
        place
    )


def _how_much(rng: Random) -> str:
    return rng.choice(("How much is a ticket?", "What does a ticket cost?", "How many coins is a ticket?"))


_OPENINGS = (
    "Once there was {a_animal} who lived near the {place}.",
    "One {weather} morning, {name} walked to the {place}.",
    "{name} and {other} were good friends.",
    "{name} had a little {animal}.",
    "Long ago, {a_animal} and {a_second} met by the {place}.",
    "On {day}, {name} went to the {place} with {other}.",
    "There was once a {weather} day at the {place}.",
)
_TROUBLES = (
    "But the {colour} {thing} was lost.",
    "Then {name} lost {a_thing}.",
    "Suddenly it began to rain.",
    "The way home was long and dark.",
    "A big {second} stood in the way.",
    "There was no {food} left to eat.",
    "The door of the {place} was closed.",
    "{other} could not find the {thing}.",
    "The {animal} was very {feeling}.",
)
_TURNS = (
    "{name} looked under the {thing2} and behind the door.",
    '{other} said, "I can help you."',
    "The {second} came and helped.",
    "{name} asked {other} for help.",
    "They looked for it until evening.",
    '"Do not be afraid," said {name}.',
    "They sat down and ate some {food}.",
    "{name} had a good idea.",
)
_ENDINGS = (
    "In the end they found the {thing}.",
    "Then they all went home and slept.",
    "{name} was {feeling} and said thank you.",
    "Since that day they have been friends.",
    "So everything was well again.",
    "They laughed and shared the {food}.",
    "And {name} never forgot that day.",
    "At night the moon was bright over the {place}.",
)


def story(rng: Random) -> str:
    """A story of four to seven sentences: an opening, a trouble, a turn and an ending."""
    name, other = rng.sample(words.NAMES, 2)
    animal, second = rng.sample(words.ANIMALS, 2)
    thing, thing2 = rng.sample(words.OBJECTS, 2)
    slots = {
        "name": name,
        "other": other,
        "animal": animal,
        "second": second,
        "a_animal": a(animal),
        "a_second": a(second),
        "thing": thing,
        "thing2": thing2,
        "a_thing": a(thing),
        "place": rng.choice(words.PLACES),
        "weather": rng.choice(words.WEATHERS),
        "colour": rng.choice(words.COLOURS),
        "food": some(rng.choice(words.FOODS)),
        "feeling": rng.choice(words.FEELINGS),
        "day": rng.choice(words.DAYS),
    }
    turns = rng.sample(_TURNS, rng.randint(1, 2))
    lines = [rng.choice(_OPENINGS), rng.choice(_TROUBLES), *turns, *rng.sample(_ENDINGS, rng.randint(1, 2))]
    return " ".join(line.format(**slots) for line in lines)


def fact(rng: Random) -> str:
    """One plain true sentence about animals, things or people."""
    animal = rng.choice(words.ANIMALS)
    job, work = rng.choice(list(words.JOBS.items()))
    coloured, colour = rng.choice(list(words.COLOUR_OF.items()))
    made, material = rng.choice(list(words.MADE_OF.items()))
    kind = rng.choice([kind for kind in words.KINDS if kind != "number"])
    first, second = rng.sample(words.KINDS[kind], 2)
    word, other = rng.choice(list(words.OPPOSITES.items()))
    options = [f"{a(job)} {work}", f"{coloured} is {colour}", f"{made} is made of {material}"]
    options += [f"{first} and {second} are {plural(kind)}", f"the opposite of {word} is {other}"]
    options += [f"{a(animal)} {verb} {table[animal]}" for verb, table in _ANIMAL_FACTS if animal in table]
    return sentence(rng.choice(options))


_ANIMAL_FACTS = (("says", words.SOUNDS), ("eats", words.FOOD_OF), ("has young called", words.YOUNG))


def facts(rng: Random) -> str:
    """A paragraph of plain facts."""
    return " ".join(fact(rng) for _ in range(rng.randint(2, 6)))


def action(rng: Random) -> str:
    """One sentence in which somebody does something somewhere."""
    name, place, thing = rng.choice(words.NAMES), rng.choice(words.PLACES), rng.choice(words.OBJECTS)
    animal, colour, food = rng.choice(words.ANIMALS), rng.choice(words.COLOURS), some(rng.choice(words.FOODS))
    return rng.choice(
        (
            f"{name} goes to the {place} every {rng.choice(words.DAYS)}.",
            f"{name} sees {a(colour)} {thing} at the {place}.",
            f"The {rng.choice(words.SIZES)} {animal} sleeps near the {place}.",
            f"{name} and {rng.choice(words.NAMES)} eat {food} at the {place}.",
            f"{a(rng.choice(list(words.JOBS))).capitalize()} brings {a(thing)} to the {place}.",
            f"In {rng.choice(words.MONTHS)} the {place} is {rng.choice(words.WEATHERS)}.",
            f"{name} gives {a(thing)} to {rng.choice(words.NAMES)}.",
            f"The {thing} is {colour} and the {rng.choice(words.OBJECTS)} is {rng.choice(words.COLOURS)}.",
        )
    )


def actions(rng: Random) -> str:
    """A paragraph of unconnected sentences."""
    return " ".join(action(rng) for _ in range(rng.randint(2, 5)))


def order(rng: Random) -> str:
    """A run of days, months, numbers or letters, as they follow each other."""
    series = rng.choice(
        (words.DAYS, words.MONTHS, words.NUMBER_WORDS, words.ORDINALS, tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    )
    start = rng.randrange(len(series) - 3)
    return f"{listed(series[start : start + rng.randint(3, 8)])}."
