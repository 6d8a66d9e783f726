"""Conversations about words and things: what the assistant can be asked besides arithmetic.

Decides the kinds of question, the phrasings of each and the manner of the answers: short, plain and friendly.
Refuses to know how often each kind occurs; `corpus` decides that.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from loops_sdk.local.engine.tiny import lexicon as words
from loops_sdk.local.engine.tiny.wording import Messages, a, ask, listed, plural, sentence, some


def _item(rng: Random, table: Mapping[str, str]) -> tuple[str, str]:
    return rng.choice(list(table.items()))


def calendar(rng: Random) -> Messages:
    """Neighbours and positions of days, months and seasons."""
    kind, series = rng.choice(
        (("day", words.DAYS), ("month", words.MONTHS), ("month", words.MONTHS), ("season", words.SEASONS))
    )
    at = rng.randrange(len(series))
    here, after = series[at], series[(at + 1) % len(series)]
    match rng.randrange(4):
        case 0:
            return ask(f"Which {kind} comes before {after}?", sentence(f"{here} comes before {after}"))
        case 1 if kind == "month":
            return ask(f"Which month is number {at + 1}?", here)
        case 2 if kind == "day":
            return ask(f"If today is {here}, what day is tomorrow?", f"Tomorrow is {after}.")
        case _:
            return ask(
                rng.choice(("What comes after {}?", "Which {k} follows {}?", "Tell me the {k} after {}.")).format(
                    here, k=kind
                ),
                after,
            )


def opposite(rng: Random) -> Messages:
    """The opposite of a word, in both directions."""
    left, right = _item(rng, words.OPPOSITES)
    if rng.random() < 0.3 and list(words.OPPOSITES.values()).count(right) == 1 and right not in words.OPPOSITES:
        left, right = right, left
    question = rng.choice(
        (
            "What is the opposite of {}?",
            "Tell me the opposite of {}.",
            "Opposite of {}?",
            "If it is not {}, what is it?",
        )
    )
    return ask(question.format(left), right)


def word_form(rng: Random) -> Messages:
    """Plurals and past tenses."""
    if rng.random() < 0.5:
        verb, past = _item(rng, words.PAST)
        return ask(
            rng.choice(("What is the past of {}?", "Put {} into the past.", "Past tense of {}?")).format(verb), past
        )
    noun = rng.choice(list(words.IRREGULAR_PLURALS) if rng.random() < 0.4 else list(words.OBJECTS + words.ANIMALS))
    question = rng.choice(
        ("What is the plural of {}?", "One {}, two ...?", "Plural of {}?", "I have one {}. You have two what?")
    )
    return ask(question.format(noun), plural(noun))


def animal(rng: Random) -> Messages:
    """Sounds, young, homes, legs and food of animals."""
    question, table, answer = rng.choice(
        (
            ("What does {} say?", words.SOUNDS, "{} says {}."),
            ("What is the young of {} called?", words.YOUNG, "The young of {} is called a {}."),
            ("Where does {} live?", words.HOMES, "{} lives in a {}."),
            ("How many legs does {} have?", words.LEGS, "{} has {} legs."),
            ("What does {} eat?", words.FOOD_OF, "{} eats {}."),
        )
    )
    name, value = _item(rng, table)
    return ask(question.format(a(name)), sentence(answer.format(a(name), value)))


def thing(rng: Random) -> Messages:
    """Colours and materials of things, and what people of a trade do."""
    match rng.randrange(4):
        case 0:
            name, colour = _item(rng, words.COLOUR_OF)
            return ask(
                rng.choice(("What colour is {}?", "Which colour has {}?")).format(name), sentence(f"{name} is {colour}")
            )
        case 1:
            name, material = _item(rng, words.MADE_OF)
            return ask(f"What is {name} made of?", sentence(f"{name} is made of {material}"))
        case 2:
            job, work = _item(rng, words.JOBS)
            return ask(f"Who {work}?", sentence(f"{a(job)} {work}"))
        case _:
            job, work = _item(rng, words.JOBS)
            return ask(f"What does {a(job)} do?", sentence(f"{a(job)} {work}"))


def kind(rng: Random) -> Messages:
    """What sort of thing a word names, members of a sort, and the odd one out."""
    first, second = rng.sample([sort for sort in words.KINDS if sort != "number"], 2)
    member, stranger = rng.choice(words.KINDS[first]), rng.choice(words.KINDS[second])
    match rng.randrange(4):
        case 0:
            return ask(f"What is {_titled(member)}?", sentence(f"{_titled(member)} is {a(first)}"))
        case 1:
            asked, truth = rng.choice(((first, "Yes"), (second, "No")))
            return ask(f"Is {_titled(member)} {a(asked)}?", f"{truth}, {_titled(member)} is {a(first)}.")
        case 2:
            count = rng.randint(2, 3)
            chosen = rng.sample(words.KINDS[first], count)
            return ask(f"Name {words.NUMBER_WORDS[count]} {plural(first)}.", sentence(listed(chosen)))
        case _:
            row = [*rng.sample(words.KINDS[first], 3), stranger]
            rng.shuffle(row)
            return ask(f"Which word does not belong: {', '.join(row)}?", stranger)


def _titled(noun: str) -> str:
    """A noun as a subject: days, months, colours and seasons take no article."""
    bare = {*words.DAYS, *words.MONTHS, *words.COLOURS, *words.SEASONS, *words.KINDS["drink"]}
    return noun if noun in bare else a(noun)


def compared(rng: Random) -> Messages:
    """Which of two is bigger, smaller, faster, slower or longer."""
    match rng.randrange(3):
        case 0:
            low, high = sorted(rng.sample(range(len(words.BY_SIZE)), 2))
            return _compared(rng, words.BY_SIZE[low], words.BY_SIZE[high], "smaller", "bigger")
        case 1:
            low, high = sorted(rng.sample(range(len(words.BY_SPEED)), 2))
            return _compared(rng, words.BY_SPEED[low], words.BY_SPEED[high], "slower", "faster")
        case _:
            one, two = sorted(rng.sample(words.OBJECTS + words.FOODS, 2), key=len)
            if len(one) == len(two):
                return ask(f"Which word is longer, {one} or {two}?", "They are equally long.")
            return ask(f"Which word is longer, {one} or {two}?", two)


def _compared(rng: Random, low: str, high: str, less: str, more: str) -> Messages:
    word, chosen = rng.choice(((less, low), (more, high)))
    pair = rng.sample((low, high), 2)
    return ask(f"Which is {word}, {a(pair[0])} or {a(pair[1])}?", sentence(f"{a(chosen)} is {word}"))


def known_fact(rng: Random) -> Messages:
    """Questions of general knowledge, answered in a few words."""
    question, answer = _item(rng, words.FACTS)
    return ask(question if rng.random() < 0.8 else f"Please tell me: {question}", sentence(answer))


def remembered(rng: Random) -> Messages:
    """Something that the user said about themselves, asked for later."""
    name, food = rng.choice(words.NAMES), some(rng.choice(words.FOODS))
    colour, pet = rng.choice(words.COLOURS), rng.choice(words.ANIMALS)
    told, question, answer = rng.choice(
        (
            (f"My name is {name}.", "What is my name?", f"Your name is {name}."),
            (f"I am {name}.", "Who am I?", f"You are {name}."),
            (f"I like {food}.", "What do I like?", f"You like {food}."),
            (
                f"My favourite colour is {colour}.",
                "What is my favourite colour?",
                f"Your favourite colour is {colour}.",
            ),
            (f"I have {a(pet)}.", "Which animal do I have?", f"You have {a(pet)}."),
            (f"My {pet} is called {name}.", f"What is my {pet} called?", f"Your {pet} is called {name}."),
        )
    )
    if rng.random() < 0.4:
        return ask(f"{told} {question}", answer)
    reply = f"Nice to meet you, {name}!" if told in (f"My name is {name}.", f"I am {name}.") else "That is nice."
    between = rng.choice((calendar, opposite, animal))(rng) if rng.random() < 0.4 else ()
    return (*ask(told, reply), *between, *ask(question, answer))


_TALK = (
    ("Hello!", "Hello! How can I help you?"),
    ("Hi.", "Hello! How can I help you?"),
    ("Good morning!", "Good morning! What can I do for you?"),
    ("Good evening.", "Good evening! What can I do for you?"),
    ("How are you?", "I am fine, thank you. And you?"),
    ("Thank you.", "You are welcome."),
    ("Thanks!", "You are welcome."),
    ("Goodbye.", "Goodbye!"),
    ("Bye!", "Goodbye!"),
    ("Who are you?", "I am a tiny language model."),
    ("What are you?", "I am a tiny language model."),
    ("What is your name?", "My name is Tiny."),
    ("Can you help me?", "Yes, please ask me a question."),
    ("What can you do?", "I can answer small questions, add small numbers and tell short stories."),
    ("Are you a person?", "No, I am a tiny language model."),
    ("I am sad.", "I am sorry. I hope you feel better soon."),
    ("I am happy.", "That is good to hear!"),
    ("Good night.", "Good night! Sleep well."),
    ("Are you big?", "No, I am very small."),
    ("Please help me.", "Of course. What do you want to know?"),
    ("Yes.", "Good."),
    ("No.", "All right."),
    ("Sorry.", "No problem."),
)


def small_talk(rng: Random) -> Messages:
    """Greetings, thanks and what the assistant says of itself."""
    return ask(*rng.choice(_TALK))
