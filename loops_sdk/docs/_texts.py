"""The page of texts: what each mistake says, word by word, from the cases that tests/errors holds the packages to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING or __package__:
    from loops_sdk.docs._reading import Unknown
else:  # part of a script, which imports neither package
    from _reading import Unknown

CASES = "tests/errors/snapshots"
TITLE, ABOUT = "What errors say", "Each mistake of a newcomer, and the text that comes of it."
#: The parts of the page, by what cases call them.
TOPICS = {
    "key": "The key",
    "server": "The server",
    "model": "The model and its adapter",
    "data": "The data",
    "await": "Calls, futures and event loops",
    "order": "Order, checkpoints and weights",
    "extras": "Packages that are not there",
    "command": "The command",
}
_FORM = re.compile(r"(?P<head>(?:\w+: .*\n)+)=== code\n(?P<code>.*?)=== says\n(?P<says>.*)", re.DOTALL)


class Case(NamedTuple):
    """One mistake."""

    title: str
    topic: str
    code: str
    says: str

    def blocks(self) -> Iterator[str]:
        language = "console" if self.code.startswith("$ ") else "python"
        yield f"### {self.title}"
        yield f"```{language}\n{self.code.rstrip()}\n```"
        yield f"```text\n{self.says.rstrip()}\n```"


def texts(root: Path) -> Iterator[str]:
    """What is on the page below its title."""
    cases = [_case(path) for path in sorted((root / CASES).glob("*.txt"))]
    yield ABOUT
    yield "What to do about each class of error is told at [Errors](../errors.md)."
    for topic, title in TOPICS.items():
        yield f"## {title}"
        for case in sorted(one for one in cases if one.topic == topic):
            yield from case.blocks()


def _case(path: Path) -> Case:
    parts = _FORM.fullmatch(path.read_text(encoding="utf-8"))
    head = dict(line.split(": ", 1) for line in parts["head"].splitlines()) if parts else {}
    if parts is None or head.get("topic") not in TOPICS or "title" not in head:
        raise Unknown(path, 1, f"no case of a known form: title, topic ({', '.join(TOPICS)}), code and what it says")
    return Case(head["title"], head["topic"], parts["code"], parts["says"])
