"""The generator: what it writes, what it refuses, and that the check notices every kind of difference."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loops_sdk_sync import _generate

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The sources the generator reads and writes, to be spoilt."""
    for folder in ("loops_sdk/_clients", "loops_sdk_sync/_generated"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("loops_sdk/__init__.py", "loops_sdk_sync/_generate.py"):
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


def generate(tree: Path, *arguments: str) -> tuple[int, str]:
    with contextlib.redirect_stderr(io.StringIO()) as said:
        status = _generate.main(["--root", str(tree), *arguments])
    return status, said.getvalue()


def core(tree: Path, module: str = "training") -> Path:
    return tree / "loops_sdk" / "_clients" / f"{module}.py"


def generated(tree: Path, module: str = "training") -> Path:
    return tree / "loops_sdk_sync" / "_generated" / f"{module}.py"


def replace(path: Path, old: str, new: str) -> int:
    """Spoil one place; the number of its line."""
    text = path.read_text()
    assert text.count(old) >= 1, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1


def add_method(path: Path, text: str) -> int:
    """A method more, before the last one; the number of its first line."""
    source = path.read_text()
    client = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    lines = source.splitlines(keepends=True)
    lines.insert(client.end_lineno or 0, "\n" + text)
    path.write_text("".join(lines))
    return (client.end_lineno or 0) + 2


# ------------------------------------------------------------------ the check


def test_the_tree_as_it_is_is_current(tree: Path) -> None:
    assert generate(tree, "--check") == (0, "")


def test_it_runs_as_a_script_where_nothing_can_be_imported(tree: Path) -> None:
    shutil.rmtree(generated(tree).parent)
    command = [sys.executable, "-I", "-S", str(tree / "loops_sdk_sync" / "_generate.py")]
    for arguments, status in ((["--check"], 1), ([], 0), (["--check"], 0)):
        assert subprocess.run([*command, *arguments], capture_output=True, timeout=60, check=False).returncode == status


def _drop_tail(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


SPOILT: dict[str, Callable[[Path], object]] = {
    "a changed line": lambda tree: replace(generated(tree), "return self._future", "return self._feature"),
    "a changed space": lambda tree: replace(generated(tree), "    def forward", "     def forward"),
    "a missing tail": lambda tree: _drop_tail(generated(tree)),
    "a file without content": lambda tree: generated(tree, "service").write_text(""),
    "an extra file": lambda tree: generated(tree, "extra").write_text(""),
    "an extra file of another kind": lambda tree: generated(tree).with_suffix(".pyi").write_text(""),
    "an extra folder": lambda tree: shutil.copytree(generated(tree).parent, generated(tree).parent / "more"),
    "a removed file": lambda tree: generated(tree, "sampling").unlink(),
    "a removed folder": lambda tree: shutil.rmtree(generated(tree).parent),
    "a changed core": lambda tree: replace(core(tree), "lora_rank: int = 32", "lora_rank: int = 33"),
    "a changed docstring": lambda tree: replace(core(tree), "Drives one trainer.", "Drives a trainer."),
    "a crashing input": lambda tree: replace(core(tree), "class TrainingClient:", "class TrainingClient"),
    "a removed input": lambda tree: core(tree, "sampling").unlink(),
    "an empty input": lambda tree: core(tree, "sampling").write_text(""),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_difference_is_noticed(tree: Path, name: str) -> None:
    SPOILT[name](tree)
    before = {path: path.read_bytes() for path in tree.rglob("*.py*")}
    status, said = generate(tree, "--check")
    assert status != 0
    assert said
    assert {path: path.read_bytes() for path in tree.rglob("*.py*")} == before, "a check writes nothing"


@pytest.mark.parametrize(
    "name", [name for name in SPOILT if "input" not in name and "core" not in name and "docstring" not in name]
)
def test_generating_mends_it(tree: Path, name: str) -> None:
    wanted = {path.name: path.read_text() for path in generated(tree).parent.iterdir()}
    SPOILT[name](tree)
    assert generate(tree) == (0, "")
    found = {path.name: path.read_text() for path in generated(tree).parent.iterdir() if path.is_file()}
    assert found == wanted
    assert generate(tree, "--check") == (0, "")


def test_a_change_of_the_core_is_followed(tree: Path) -> None:
    replace(core(tree), "lora_rank: int = 32", "lora_rank: int = 33")
    assert generate(tree) == (0, "")
    assert "lora_rank: int = 33" in generated(tree).read_text()
    assert generate(tree, "--check") == (0, "")


def test_what_crashes_is_told_with_its_place_and_nothing_is_written(tree: Path) -> None:
    line = replace(core(tree), "class TrainingClient:", "class TrainingClient")
    before = generated(tree).read_text()
    status, said = generate(tree)
    assert status == 2
    assert "training.py" in said
    assert str(line) in said
    assert generated(tree).read_text() == before


# ------------------------------------------------------------------ shapes

DOC = '        """Do it."""\n        return None\n'
UNKNOWN = {
    "a coroutine without the suffix": f"    async def thing(self) -> None:\n{DOC}",
    "a method without annotation": f"    def thing(self):\n{DOC}",
    "a parameter without annotation": f"    async def thing_async(self, a) -> None:\n{DOC}",
    "a client inside another type": f"    async def thing_async(self) -> list[SamplingClient]:\n{DOC}",
    "a future from a plain method": f"    def thing(self) -> ForwardBackwardFuture:\n{DOC}",
    "a client as parameter": f"    async def thing_async(self, other: SamplingClient) -> None:\n{DOC}",
    "a special method": f"    def __len__(self) -> int:\n{DOC}",
    "a decorator": f"    @staticmethod\n    def thing() -> None:\n{DOC}",
    "a setter": f"    @run_id.setter\n    def run_id(self, value: str) -> None:\n{DOC}",
    "an asynchronous generator": '    async def thing_async(self) -> int:\n        """Do it."""\n        yield 1\n',
    "no docstring": "    async def thing_async(self) -> None:\n        return None\n",
    "a class attribute": "    thing = 3\n",
    "a class in a class": f"    class Thing:\n{DOC}",
    "a private type": f"    async def thing_async(self, run: Network) -> None:\n{DOC}",
    "a name from nowhere": f"    async def thing_async(self, run: Nowhere) -> None:\n{DOC}",
    "a private constant": f"    async def thing_async(self, loss: Any = _LOSSES) -> None:\n{DOC}",
    "an annotation over two lines": f"    async def thing_async(self, a: dict[\n        str, int]) -> None:\n{DOC}",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_shape_is_refused_with_file_and_line(tree: Path, name: str) -> None:
    line = add_method(core(tree), UNKNOWN[name])
    status, said = generate(tree)
    assert status == 2, said
    found = re.search(r"training\.py:(\d+): .+", said)
    assert found, said
    assert line <= int(found[1]) <= line + UNKNOWN[name].count("\n")


@pytest.mark.parametrize("table", ["FUTURES", "PROPERTIES", "PROXIED"])
def test_a_rule_that_nothing_used_is_refused(tree: Path, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_generate, table, {*getattr(_generate, table), "__len__"})
    assert generate(tree) == (2, f"{_generate.__file__}:1: rules that nothing used: __len__\n")


KNOWN = {
    "a class method that makes a client": (
        "    @classmethod\n    def local(cls, *, url: str) -> Self:\n" + DOC,
        [
            "    @classmethod\n    def local(cls, *, url: str) -> Self:",
            "cls._alone(loops_sdk.TrainingClient.local(url=url))",
        ],
    ),
    "a class method that waits": (
        "    @classmethod\n    async def up_async(cls, url: str) -> int:\n" + DOC,
        [
            "    @classmethod\n    def up(cls, url: str) -> int:",
            "return portal().call(loops_sdk.TrainingClient.up_async, url)",
            "return await portal().call_async(loops_sdk.TrainingClient.up_async, url)",
        ],
    ),
    "every kind of parameter": (
        "    async def thing_async(self, a: int, /, b: int = 1, *c: int, d: int, **e: int) -> int:\n" + DOC,
        [
            "def thing(self, a: int, /, b: int = 1, *c: int, d: int, **e: int) -> int:",
            "self._portal.call(self._core.thing_async, a, b, *c, d=d, **e)",
        ],
    ),
    "nothing as result": (
        "    async def thing_async(self) -> None:\n" + DOC,
        ["        self._portal.call(self._core.thing_async)\n", "        await self._portal.call_async("],
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_shape_is_transcribed(tree: Path, name: str) -> None:
    method, expected = KNOWN[name]
    add_method(core(tree), method)
    assert generate(tree) == (0, "")
    text = generated(tree).read_text()
    compile(text, "training.py", "exec")
    for piece in expected:
        assert piece in text
