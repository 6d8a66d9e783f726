"""The corpus: the same on every machine, true in its sums, and cut cleanly into training and held-out parts."""

from __future__ import annotations

import re
from itertools import islice
from random import Random

import pytest

from loops_sdk.local.engine.tiny import sums
from loops_sdk.local.engine.tiny.corpus import Document, documents, held_out_documents, is_held_out


def first(count: int, seed: int) -> list[Document]:
    return list(islice(documents(seed), count))


def test_same_seed_same_documents() -> None:
    assert first(300, 3) == first(300, 3)
    assert first(300, 3) != first(300, 4)


def test_held_out_documents_never_occur_in_training() -> None:
    held = held_out_documents(200, 5)
    trained = first(5_000, 5)
    assert all(map(is_held_out, held))
    assert not {repr(document) for document in held} & {repr(document) for document in trained}


def test_about_one_document_in_forty_is_held_out() -> None:
    drawn = [*first(4_000, 1), *held_out_documents(100, 1)]
    assert 0.015 < sum(map(is_held_out, drawn)) / len(drawn) < 0.035


def test_conversations_begin_with_a_question_and_end_with_an_answer() -> None:
    for document in first(2_000, 6):
        if isinstance(document, str):
            assert document.strip() == document != ""
            continue
        roles = [turn["role"] for turn in document]
        start = 1 if roles[0] == "system" else 0
        assert roles[start:] == ["user", "assistant"] * ((len(roles) - start) // 2)
        assert all(turn["content"].strip() for turn in document)


@pytest.mark.parametrize("kind", [sums.small_sum, sums.small_difference, sums.larger])
def test_every_calculation_is_right(kind: object) -> None:
    assert callable(kind)
    rng = Random(0)
    for _ in range(500):
        question, answer = (turn["content"] for turn in kind(rng))
        found = re.search(r"(\d+) ([-+*]) (\d+)", question)
        assert found is not None
        a, b = int(found[1]), int(found[3])
        right = {"+": a + b, "-": a - b, "*": a * b}[found[2]]
        assert answer.split(" ")[-1] == str(right)


def test_no_placeholder_is_left_in_any_text() -> None:
    assert not [document for document in first(3_000, 8) if re.search(r"[{}]", repr(text_of(document)))]


def text_of(document: Document) -> str:
    return document if isinstance(document, str) else " ".join(turn["content"] for turn in document)
