"""The blocks of a page: what a reader would run, and what the page says that it prints.

    ```python              runs, `await` included, in the one namespace of its page
    ```python title="F"    is the file F in the folder of its page; so is a block of any other language with a title
    ```sh                  runs, and must succeed
    ```console             lines with `$` run, the lines after them are what they print
    ```output              is what the block before it prints

A block that cannot run on a laptop has `<!-- not run: REASON -->` on the line above. All others only show something.
What is printed agrees with the page if it is the same but for numbers and ids; ... stands for anything, on a line of
its own for any number of lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "loops_sdk" / "docs"
RUN = ("python", "sh", "console")

_FENCE = re.compile(r'```(?P<language>[\w-]*)(?: title="(?P<title>[^"]+)")?')
_EXCUSE = re.compile(r"<!-- not run: (.+) -->")
_PIECE = re.compile(r"(?P<any>\.\.\.|…)|(?P<bar>[█▇▆▅▄▃▂▁▏▎▍▌▋▊▉]+)|(?P<word>[\w-]+)|(?P<gap>\s+)|(?P<other>.)")


@attrs.frozen
class Block:
    """One fenced block; `line` is that of its first line of text, counted from 1."""

    path: Path
    line: int
    language: str
    title: str | None
    text: str
    excuse: str | None

    @property
    def place(self) -> str:
        return f"{self.path.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def runs(self) -> bool:
        return self.language in RUN and self.title is None and self.excuse is None


def pages() -> list[Path]:
    """The pages that people write, and the README. Those in reference/ are made of docstrings: signatures, mostly."""
    written = (path for path in DOCS.rglob("*.md") if path.parent.name != "reference")
    return [ROOT / "README.md", *sorted(written)]


def blocks(path: Path) -> Iterator[Block]:
    """All fenced blocks of a page.

    Raises:
        ValueError: a fence with other words than those above, in a list, or without an end.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        if lines[number].lstrip().startswith("```"):
            fence = _FENCE.fullmatch(lines[number])
            if fence is None or "```" not in lines[number + 1 :]:
                raise ValueError(f"{path}:{number + 1}: {lines[number]!r} opens no block of a known form")
            end = lines.index("```", number + 1)
            excuse = _EXCUSE.fullmatch(lines[number - 1]) if number else None
            text = "\n".join(lines[number + 1 : end]) + "\n"
            yield Block(path, number + 2, fence["language"], fence["title"], text, excuse[1] if excuse else None)
            number = end
        number += 1


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what it prints."""
    for piece in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, printed = piece.partition("\n")
        while command.endswith("\\"):
            more, _, printed = printed.partition("\n")
            command = f"{command}\n{more}"
        yield command, printed


def agrees(expected: str, printed: str) -> bool:
    """Whether what was printed is what the page says."""
    return re.fullmatch("".join(map(_pattern, expected.strip().splitlines())), _stripped(printed)) is not None


def _stripped(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.strip().splitlines())


def _pattern(line: str) -> str:
    if line.strip() in ("...", "…"):
        return r"(?:.*\n)*?"
    return "".join(map(_of_piece, _PIECE.finditer(line.rstrip()))) + r"\n"


def _of_piece(piece: re.Match[str]) -> str:
    text = piece.group()
    if piece["any"]:
        return ".*?"
    if piece["bar"]:
        return f"[{''.join('█▇▆▅▄▃▂▁▏▎▍▌▋▊▉')}]*"
    if piece["gap"]:
        return r"\s*?" if text.startswith("  ") else r"[ ]+"
    if piece["word"] and any(one.isdigit() for one in text):
        return r"[\w-]+"
    return re.escape(text)
