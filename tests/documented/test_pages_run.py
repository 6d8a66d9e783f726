"""Every block of every page runs, and prints what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from .blocks import DOCS, ROOT, Block, blocks, pages
from .reader import Reader

#: Blocks that need the service, another account or a GPU. Fewer is better.
MOST_EXCUSED = 14


def name(path: Path) -> str:
    return path.relative_to(ROOT if path.parent == ROOT else DOCS).as_posix()


@pytest.mark.parametrize("path", [path for path in pages() if any(block.runs for block in blocks(path))], ids=name)
@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")  # of peft and transformers, to one another
async def test_a_page_does_what_it_says(path: Path, reader: Reader) -> None:
    await reader.read(blocks(path))


def test_few_blocks_are_excused_and_each_says_why() -> None:
    every = [block for path in pages() for block in blocks(path)]
    excused = [block.place for block in every if block.excuse is not None]
    assert len(excused) <= MOST_EXCUSED, excused
    comments = [path.read_text(encoding="utf-8").count("<!-- not run") for path in pages()]
    assert sum(comments) == len(excused), "a `not run` stands above no block"
    assert sum(block.runs for block in every) > 3 * len(excused)


# ------------------------------------------------------------------ the reader notices


def page(folder: Path, text: str) -> list[Block]:
    path = DOCS / "not-there.md"
    written = folder / "page.md"
    written.write_text(text)
    return [Block(path, one.line, one.language, one.title, one.text, one.excuse) for one in blocks(written)]


@pytest.fixture
def alone(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


READ = {
    "an await at the top": "```python\nimport asyncio as a\nprint(await a.sleep(0, 1))\n```\n```output\n1\n```\n",
    "names stay": "```python\na = 1\n```\n\ntext\n\n```python\nprint(a)\n```\n```output\n1\n```\n",
    "a file and a command": '```python title="f.py"\nprint("hi")\n```\n\n```console\n$ python3 f.py\nhi\n```\n',
    "numbers differ": "```python\nprint('loss 3.14, run k4q95w5')\n```\n```output\nloss 2.7, run a1b2c3\n```\n",
    "left out": "```python\nprint('a\\nb\\nc\\nd e f')\n```\n```output\na\n...\nd ... f\n```\n",
    "excused": "<!-- not run: it fails -->\n```python\n1 / 0\n```\n",
    "two commands": "```console\n$ echo a \\\n  b\na b\n$ echo c\nc\n```\n",
}
WRONG = {
    "another word": "```python\nprint('lost 3.14')\n```\n```output\nloss 3.14\n```\n",
    "a line more": "```python\nprint('a\\nb')\n```\n```output\na\n```\n",
    "nothing printed": "```python\nx = 1\n```\n```output\na\n```\n",
    "another command's words": "```console\n$ echo a\nb\n```\n",
    "a command that fails": "```console\n$ false\n```\n",
    "a script that fails early": "```sh\nfalse\ntrue\n```\n",
    "a program that fails": "```python\nimport asyncio\nasyncio.run(asyncio.sleep(None))\n```\n",
}


@pytest.mark.parametrize("case", READ)
async def test_what_agrees(case: str, alone: Reader) -> None:
    await alone.read(page(alone.folder, READ[case]))


@pytest.mark.parametrize("case", WRONG)
async def test_what_does_not(case: str, alone: Reader) -> None:
    with pytest.raises(AssertionError, match=r"not-there\.md:"):
        await alone.read(page(alone.folder, WRONG[case]))


async def test_an_error_names_page_and_line(alone: Reader) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        await alone.read(page(alone.folder, "# Page\n\n```python\na = 1\n1 / 0\n```\n"))
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno) == ("loops_sdk/docs/not-there.md:4", 4)


@pytest.mark.parametrize("text", ["* list\n  ```python\n  a\n  ```\n", "```python\na\n", "```python run=no\na\n```\n"])
def test_a_fence_that_is_none(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="opens no block of a known form"):
        page(tmp_path, text)
