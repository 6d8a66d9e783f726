"""The cases: one file each, with the code that goes wrong and the text that comes of it. The docs show them, too.

A file is a head of ``name: value`` lines (title, topic, given), the code under ``=== code`` and the text under
``=== says``. `given` names what is there before the code runs; its names are explained in `surroundings`.
"""

from __future__ import annotations

import re
from pathlib import Path

import attrs

FOLDER = Path(__file__).parent / "snapshots"
_FORM = re.compile(r"(?P<head>(?:\w+: .*\n)+)=== code\n(?P<code>.*?)=== says\n(?P<says>.*)", re.DOTALL)
#: What differs from time to time, and what stands there instead.
_VOLATILE = (
    (r"(127\.0\.0\.1|localhost):\d+", r"\1:PORT"),
    (r"port \d+", "port PORT"),
    (r"(elapsed|retry_after)=[\d.]+s", r"\1=N.Ns"),
    (r"(attempts)=\d+", r"\1=N"),
    (r"(operation_id|idempotency_key|request_id|session_id|run_id)=[\w-]+", r"\1=..."),
    (r"/operations/[\w-]+", "/operations/..."),
    (r"run \w{7} has", "run k4q95w5 has"),
    (r"within 1\.\d+ s", "within 2 s"),  # what is left of two seconds
    (r"\[Errno \d+\] ", ""),
    (r"\[Errno -\d+\] [\w ]+", "Name or service not known"),
    (r"Connect call failed \(.*?\)", "Connection refused"),
    (r"\. Did you mean: '\w+'\?$", ""),  # Python's own, which not every version appends
)


@attrs.frozen
class Case:
    """One case."""

    name: str
    title: str
    topic: str
    given: tuple[str, ...]
    code: str
    says: str

    @classmethod
    def read(cls, path: Path) -> Case:
        parts = _FORM.fullmatch(path.read_text(encoding="utf-8"))
        assert parts is not None, f"{path} has not the form of a case"
        head = dict(line.split(": ", 1) for line in parts["head"].splitlines())
        given = tuple(head.pop("given", "").split())
        return cls(path.stem, given=given, code=parts["code"], says=parts["says"], **head)

    def write(self, says: str) -> None:
        head = {"title": self.title, "topic": self.topic, "given": " ".join(self.given)}
        lines = "".join(f"{name}: {value}\n" for name, value in head.items() if value)
        text = f"{lines}=== code\n{self.code}=== says\n{says}"
        (FOLDER / f"{self.name}.txt").write_text(text, encoding="utf-8")


def settled(text: str, **places: str) -> str:
    """A text without what differs from time to time. `places` are texts of this run, by what stands for them."""
    for name, place in places.items():
        text = text.replace(place, name)
    for volatile, instead in _VOLATILE:
        text = re.sub(volatile, instead, text, flags=re.MULTILINE)
    return text
