"""Arithmetic in words: sums, differences, products and comparisons of small numbers, asked in many ways.

Decides the ranges of the numbers and the phrasings. Refuses to know how often each kind occurs: `corpus` keeps small
sums rare enough that the model is unsure of them, so that reinforcement learning has something to raise.
"""

from __future__ import annotations

from random import Random

from loops_sdk.local.engine.tiny.lexicon import NAMES, NUMBER_WORDS, OBJECTS
from loops_sdk.local.engine.tiny.wording import Messages, ask, plural

_QUESTIONS = (
    "What is {e}?",
    "What is {e}?",
    "What is {e}?",
    "{e} = ?",
    "How much is {e}?",
    "Calculate {e}.",
    "{e}",
    "Please work out {e}.",
    "Can you tell me what {e} is?",
    "Compute {e}.",
    "What does {e} make?",
    "Solve {e}.",
)


def _phrase(rng: Random, expression: str, result: int) -> Messages:
    question = rng.choice(_QUESTIONS).format(e=expression)
    answer = f"{expression} = {result}" if rng.random() < 0.15 else str(result)
    return ask(question, answer)


def small_sum(rng: Random) -> Messages:
    """Addition of two numbers from 0 to 20."""
    a, b = rng.randint(0, 20), rng.randint(0, 20)
    return _phrase(rng, f"{a} + {b}", a + b)


def small_difference(rng: Random) -> Messages:
    """Subtraction within 0 to 20, never below zero."""
    a = rng.randint(0, 20)
    b = rng.randint(0, a)
    return _phrase(rng, f"{a} - {b}", a - b)


def larger(rng: Random) -> Messages:
    """Sums and differences up to 99 and products up to 10 times 10."""
    a, b = rng.randint(10, 99), rng.randint(1, 99)
    match rng.randrange(3):
        case 0:
            return _phrase(rng, f"{a} + {b}", a + b)
        case 1:
            return _phrase(rng, f"{max(a, b)} - {min(a, b)}", abs(a - b))
        case _:
            return _phrase(rng, f"{a % 11} * {b % 11}", (a % 11) * (b % 11))


def in_words(rng: Random) -> Messages:
    """Sums and differences up to twenty, written and answered in words."""
    a, b = sorted((rng.randint(0, 10), rng.randint(0, 10)))
    low, high, total = NUMBER_WORDS[a], NUMBER_WORDS[b], NUMBER_WORDS[a + b]
    if rng.random() < 0.5:
        return ask(f"What is {low} plus {high}?", f"{low.capitalize()} plus {high} is {total}.")
    return ask(f"What is {high} minus {low}?", f"{high.capitalize()} minus {low} is {NUMBER_WORDS[b - a]}.")


def word_problem(rng: Random) -> Messages:
    """A tiny tale of somebody who gets or loses things."""
    name, other, thing = rng.choice(NAMES), rng.choice(NAMES), rng.choice(OBJECTS)
    a = rng.randint(2, 12)
    b = rng.randint(1, a)
    things = plural(thing)
    if rng.random() < 0.5:
        tale, left = f"{name} has {a} {things} and gets {b} more.", a + b
    else:
        tale, left = f"{name} has {a} {things} and gives {b} to {other}.", a - b
    answer = f"{name} has {left} {things if left != 1 else thing}."
    return ask(f"{tale} How many {things} does {name} have now?", answer)


def comparison(rng: Random) -> Messages:
    """Which of two numbers is larger or smaller."""
    a, b = rng.sample(range(100 if rng.random() < 0.4 else 21), 2)
    larger_wanted = rng.random() < 0.5
    word = rng.choice(("larger", "bigger", "greater") if larger_wanted else ("smaller", "less"))
    chosen = max(a, b) if larger_wanted else min(a, b)
    return ask(f"Which number is {word}, {a} or {b}?", str(chosen))


def counting(rng: Random) -> Messages:
    """Counting up, counting down, the neighbours of a number."""
    start, steps = rng.randint(0, 40), rng.randint(3, 6)
    match rng.randrange(4):
        case 0:
            return ask(f"Count from {start} to {start + steps}.", _row(range(start, start + steps + 1)))
        case 1:
            return ask(f"Count down from {start + steps} to {start}.", _row(range(start + steps, start - 1, -1)))
        case 2:
            return ask(rng.choice(("What comes after {}?", "Which number follows {}?")).format(start), str(start + 1))
        case _:
            return ask(f"What comes before {start + 1}?", str(start))


def spelled(rng: Random) -> Messages:
    """Numbers to words and back."""
    number = rng.randint(0, 20)
    if rng.random() < 0.5:
        return ask(f"Write {number} as a word.", NUMBER_WORDS[number])
    return ask(f"Write {NUMBER_WORDS[number]} as a number.", str(number))


def _row(numbers: range) -> str:
    return ", ".join(map(str, numbers))
