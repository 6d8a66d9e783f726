"""Writes the pages in reference/ from the docstrings of all public names: python loops_sdk/docs/_generate.py [--check]

It copies the text of signatures and docstrings and sets links. A public name, member, parameter or field that nothing
documents is an error with file and line, and so is a shape it does not know, a reference that leads nowhere, and a rule
that nothing used. It needs the standard library only and imports neither package.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from loops_sdk.docs._environment import ENVIRONMENT
    from loops_sdk.docs._items import MADE
    from loops_sdk.docs._pages import COMMAND, PAGES, PLACED, Book
    from loops_sdk.docs._reading import Unknown
else:  # a script, which imports neither package
    from _environment import ENVIRONMENT
    from _items import MADE
    from _pages import COMMAND, PAGES, PLACED, Book
    from _reading import Unknown

HERE = "loops_sdk/docs/reference"


def generate(root: Path) -> dict[str, str]:
    """The text of every page, by the name of its file."""
    book = Book(root)
    pages = {"index": book.index(), **{page: book.text(page) for page in PAGES}}
    pages |= {"environment": book.environment(), "texts": book.texts()}
    if unused := sorted({*PAGES, *PLACED, *MADE, *ENVIRONMENT} - book.used):
        raise Unknown(Path(__file__), 1, f"rules that nothing used: {', '.join(unused)}")
    return {f"{page}.md": text for page, text in pages.items()}


def present(folder: Path) -> dict[str, str]:
    """The files that are there, by name."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def differences(wanted: dict[str, str], found: dict[str, str]) -> str:
    """A unified diff of all files, empty when both are the same."""
    return "".join(
        "".join(_difference(name, found.get(name), wanted.get(name)))
        for name in sorted({*wanted, *found})
        if wanted.get(name) != found.get(name)
    )


def _difference(name: str, found: str | None, wanted: str | None) -> Iterator[str]:
    yield f"{name}: {'is missing' if found is None else 'does not belong here' if wanted is None else 'differs'}\n"
    yield from difflib.unified_diff((found or "").splitlines(keepends=True), (wanted or "").splitlines(keepends=True))


def write(wanted: dict[str, str], folder: Path) -> None:
    """Write the pages, and remove those that are none any more; nothing else is ever removed."""
    for name in present(folder).keys() - wanted.keys():
        if name.endswith(".md"):
            (folder / name).unlink()
    folder.mkdir(exist_ok=True)
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=f"Write the pages of {HERE} from the docstrings of all public names.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the pages are not up to date")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2], help="source tree (default: this one)")
    options = parser.parse_args(arguments)
    folder = options.root / HERE
    try:
        wanted = generate(options.root)
    except (Unknown, SyntaxError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if not options.check:
        write(wanted, folder)
    elif difference := differences(wanted, present(folder)):
        sys.stderr.write(f"{difference}\n{folder} is not what the docstrings make it: {COMMAND}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
