"""Incremental decoding against decoding at once, with characters cut anywhere; stop strings across token borders."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from loops_sdk.local.engine.text import StopText

pieces = st.lists(st.text(alphabet="ab é€😀", min_size=1, max_size=5), min_size=1, max_size=6)


def tokenise(text: str, cuts: Sequence[int]) -> tuple[list[int], dict[int, bytes]]:
    """A tokenizer made for one text: its UTF-8 bytes cut at will, every piece a token."""
    raw = text.encode()
    borders = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    table = {i: raw[a:b] for i, (a, b) in enumerate(pairwise(borders))}
    return list(table), table


@settings(deadline=None, max_examples=100)
@given(st.text(min_size=1, alphabet="ab é€😀"), st.lists(st.integers(0, 100)))
def test_tokens_together_give_the_whole_text(text: str, cuts: list[int]) -> None:
    tokens, table = tokenise(text, cuts)
    watch = StopText(lambda ids: b"".join(table[i] for i in ids).decode(errors="replace"), ["never"])
    pushed = [watch.push(token) for token in tokens]
    assert not any(pushed)
    watch.finish()
    assert watch.text == text


@settings(deadline=None, max_examples=100)
@given(pieces, st.lists(st.integers(0, 100)), st.lists(st.sampled_from(["STOP", "ST", "😀€", "xé"]), min_size=1))
def test_the_first_stop_string_cuts_wherever_the_tokens_end(
    words: list[str], cuts: list[int], stops: list[str]
) -> None:
    text = "STOP".join(words) + "xé" + "tail"
    tokens, table = tokenise(text, cuts)
    watch = StopText(lambda ids: b"".join(table[i] for i in ids).decode(errors="replace"), stops)
    for token in tokens:
        if watch.push(token):
            break
    found = [text.find(stop) for stop in stops if stop in text]
    assert watch.finish() == bool(found)
    assert watch.text == (text[: min(found)] if found else text)


def test_it_stops_at_the_token_that_completes_the_stop_string() -> None:
    words = ["Hel", "lo wo", "rld", " more"]
    watch = StopText(lambda ids: "".join(words[i] for i in ids), ["world"])
    assert [watch.push(i) for i in range(3)] == [False, False, True]
    assert watch.text == "Hello "


def test_bytes_that_are_no_text_do_not_wait_for_ever() -> None:
    watch = StopText(lambda ids: "\N{REPLACEMENT CHARACTER}" * len(ids), ["!"])
    for _ in range(100):
        watch.push(0)
    assert len(watch.text) >= 80
