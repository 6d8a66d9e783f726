"""`loops examples`: what it lists, shows, copies and refuses. What it runs is tested in tests/examples."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import loops_sdk

from .conftest import Loops

EXAMPLES = Path(loops_sdk.__file__).parent / "examples"


def written(name: str) -> Path:
    """The file that runs an example."""
    return EXAMPLES / f"{name}.py" if (EXAMPLES / f"{name}.py").is_file() else EXAMPLES / name / "__main__.py"


async def names(loops: Loops) -> list[str]:
    return [row["name"] for row in (await loops("examples", "list", "--json")).json]


async def test_the_list_says_what_each_is(loops: Loops) -> None:
    table = (await loops("examples", "list")).table
    assert table[0] == ["NAME", "WHAT IT IS"]
    for name, what in table[1:]:
        assert (ast.get_docstring(ast.parse(written(name).read_text())) or "").startswith(what)
    assert [name for name, _ in table[1:]] == sorted(await names(loops))
    assert "quickstart" in await names(loops)
    assert "data" not in await names(loops)


async def test_every_example_says_how_it_is_run(loops: Loops) -> None:
    for name in await names(loops):
        assert f"loops examples run {name}" in (ast.get_docstring(ast.parse(written(name).read_text())) or "")


def test_every_file_of_an_example_can_be_read_in_one_go() -> None:
    files = list(EXAMPLES.rglob("*.py"))
    assert len(files) > 10
    assert [path.name for path in files if len(path.read_text().splitlines()) > 150] == []


async def test_an_example_is_shown_as_it_is(loops: Loops) -> None:
    assert (await loops("examples", "show", "quickstart")).out.strip() == written("quickstart").read_text().strip()


async def test_every_example_is_copied_with_its_data(loops: Loops, tmp_path: Path) -> None:
    for name in await names(loops):
        done = await loops("examples", "copy", name, str(tmp_path / name))
        copy = tmp_path / name / written(name).relative_to(EXAMPLES)
        assert copy.read_bytes() == written(name).read_bytes()
        assert done.out.endswith(f"run it with: loops run {copy}\n")
        data = EXAMPLES / "data"
        for file in data.iterdir():
            assert (tmp_path / name / "data" / file.name).exists() == (file.name in copy.read_text())


async def test_nothing_is_overwritten_unless_told_and_then_it_is_said(loops: Loops, tmp_path: Path) -> None:
    mine = tmp_path / "quickstart.py"
    mine.write_text("mine\n")
    done = await loops("examples", "copy", "quickstart", str(tmp_path))
    assert done.code == 2
    assert f"{mine} would be overwritten" in done.err
    assert mine.read_text() == "mine\n"
    assert f"overwrote {mine}\n" in (await loops("examples", "copy", "quickstart", str(tmp_path), "--force")).out
    assert mine.read_bytes() == written("quickstart").read_bytes()


@pytest.mark.parametrize("command", ["show", "copy", "run"])
async def test_an_unknown_name(loops: Loops, command: str) -> None:
    done = await loops("examples", command, "quikstart")
    assert (done.code, done.out) == (2, "")
    assert "there is no example 'quikstart'. Did you mean 'quickstart'? There are: " in done.err
    assert "Did you mean" not in (await loops("examples", command, "zzz")).err


@pytest.mark.parametrize("option", [["--data-dir", "here"], ["--max-seq-len", "9"], ["--no-durable"]])
async def test_the_service_takes_no_options_of_a_deployment_here(loops: Loops, option: list[str]) -> None:
    done = await loops("examples", "run", "--service", *option, "quickstart")
    assert (done.code, done.out) == (2, "")
    assert f"{option[0].replace('no-', '')} is about a deployment on this machine" in done.err
