"""A reader who types what a page says: runs its blocks in order and compares what they print."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from .blocks import Block, agrees, commands

LIMIT = 150.0


@attrs.define
class Reader:
    """Reads one page, in an empty folder that is the current one."""

    folder: Path
    names: dict[str, Any] = attrs.field(factory=lambda: {"__name__": "__main__"})
    printed: str = ""

    async def read(self, page: Iterable[Block]) -> None:
        """Does what every block says.

        Raises:
            AssertionError: something else was printed, or a command failed.
        """
        run = {"python": self._python, "sh": self._sh, "console": self._console}
        for block in page:
            if block.title is not None:
                (self.folder / block.title).write_text(block.text, encoding="utf-8")
            elif block.language == "output":
                self._compare(block, block.text, self.printed)
            elif block.runs:
                self.printed = await run[block.language](block)

    async def _python(self, block: Block) -> str:
        code = compile("\n" * (block.line - 1) + block.text, block.place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if "asyncio.run" in block.text:  # a whole program, which has a loop of its own
            return await self._command(block, [sys.executable, "-c", block.text])
        with contextlib.redirect_stdout(io.StringIO()) as said:
            coroutine = eval(code, self.names)
            if inspect.iscoroutine(coroutine):
                await asyncio.wait_for(coroutine, LIMIT)
        return said.getvalue()

    async def _sh(self, block: Block) -> str:
        return await self._command(block, ["bash", "-euc", block.text])

    async def _console(self, block: Block) -> str:
        whole = ""
        for command, expected in commands(block):
            printed = await self._command(block, ["bash", "-c", command])
            self._compare(block, expected, printed)
            whole += printed
        return whole

    async def _command(self, block: Block, command: list[str]) -> str:
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0, f"{block.place}: {command[-1]!r} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    @staticmethod
    def _compare(block: Block, expected: str, printed: str) -> None:
        said = textwrap.indent(printed, "    ")
        assert agrees(expected, printed), f"{block.place}: the page says something else than what is printed:\n{said}"
