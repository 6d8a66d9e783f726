"""``loops examples``: the programs that ship with the package, to list, read, copy and run.

An example is a file ``NAME.py``, or a folder ``NAME/`` whose ``__main__.py`` runs it. What it is stands in the first
line of its docstring; the files of ``data/`` that it reads are those that its text names. What it does is its own
affair.
"""

from __future__ import annotations

import ast
import asyncio
import difflib
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import attrs
import click
from click.core import ParameterSource

from loops_sdk.cli.deployment import deployment_options, durable_option
from loops_sdk.cli.output import json_option, print_json, print_table
from loops_sdk.cli.run import run, run_script

_DATA = "data"
_MAIN = "__main__.py"


@attrs.frozen
class Example:
    """One example: a file or a folder in the folder of them all."""

    path: Path

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        return self.path.stem

    @property
    def program(self) -> Path:
        """The file that runs it."""
        return self.path / _MAIN if self.path.is_dir() else self.path

    @property
    def what(self) -> str:
        """The first line of its docstring."""
        return (ast.get_docstring(ast.parse(_text(self.program))) or "").partition("\n")[0]

    def answers_help(self, args: Sequence[str]) -> bool:
        """Whether it will print its options and end, for which nothing needs to be started."""
        return "argparse" in _text(self.program) and not {"-h", "--help"}.isdisjoint(args)

    def texts(self) -> list[Path]:
        """Its own files; of a folder the program first."""
        inside = [path for path in self.path.rglob("*") if path.is_file()] if self.path.is_dir() else [self.path]
        own = [path for path in inside if "__pycache__" not in path.parts]
        return sorted(own, key=lambda path: (path != self.program, path))

    def data(self) -> list[Path]:
        """The files of the shared data that it reads."""
        said = "".join(_text(path) for path in self.texts() if path.suffix == ".py")
        return [path for path in sorted((self.path.parent / _DATA).iterdir()) if path.name in said]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _all(folder: Path) -> dict[str, Example]:
    found = [Example(path) for path in folder.iterdir() if path.suffix == ".py" or (path / _MAIN).is_file()]
    return {example.name: example for example in sorted(found, key=lambda example: example.name)}


def _shipped(ctx: click.Context) -> dict[str, Example]:
    """By their names; their files are there until the command ends."""
    opened = ctx.with_resource(ExitStack())
    return _all(opened.enter_context(as_file(files("loops_sdk") / "examples")))


def _named(ctx: click.Context, _param: click.Parameter, name: str) -> Example:
    known = _shipped(ctx)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise click.BadParameter(f"there is no example {name!r}.{meant} There are: {', '.join(known)}.")
    return known[name]


def _completed(ctx: click.Context, _param: click.Parameter, beginning: str) -> list[str]:
    return [name for name in _shipped(ctx) if name.startswith(beginning)]


name_argument = click.argument("example", metavar="NAME", callback=_named, shell_complete=_completed)


@click.group(short_help="Programs that ship with this package: list, show, copy, run.")
def examples() -> None:
    """Programs that ship with this package: small, complete, and yours to change."""


@examples.command("list")
@json_option
@click.pass_context
def list_examples(ctx: click.Context, as_json: bool) -> None:
    """Name the examples, with a line on each."""
    found = _shipped(ctx).values()
    if as_json:
        print_json([{"name": one.name, "what": one.what, "path": str(one.path)} for one in found])
        return
    print_table(["NAME", "WHAT IT IS"], [[one.name, one.what] for one in found], empty="this package has no examples")


@examples.command()
@name_argument
def show(example: Example) -> None:
    """Print an example."""
    for path in example.texts():
        if example.path.is_dir():
            click.echo(f"# {path.relative_to(example.path.parent).as_posix()}")
        click.echo(_text(path))


@examples.command()
@name_argument
@click.argument("directory", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite files that are there already, and name them.")
def copy(example: Example, directory: Path, force: bool) -> None:
    """Copy an example into DIRECTORY (by default the current one), with the data that it reads.

    Files that are there already are named, and nothing is copied, unless --force says so.
    """
    copies = list(_copies(example, directory))
    there = {target for _, target in copies if target.exists()}
    if there and not force:
        named = ", ".join(map(str, sorted(there)))
        raise click.UsageError(f"not copied: {named} would be overwritten. Name another directory, or use --force.")
    for source, target in copies:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        click.echo(f"{'overwrote' if target in there else 'wrote'} {target}")
    program = directory / example.program.relative_to(example.path.parent)
    click.echo(f"run it with: loops run {shlex.quote(str(program))}")


def _copies(example: Example, directory: Path) -> Iterator[tuple[Path, Path]]:
    for source in (*example.texts(), *example.data()):
        yield source, directory / source.relative_to(example.path.parent)


@examples.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@deployment_options
@durable_option
@click.option(
    "--service",
    is_flag=True,
    help="Run it against the service (LOOPS_BASE_URL, with the key in BASETEN_API_KEY) instead of a deployment on this "
    "machine. The base model is then --base-model, else LOOPS_BASE_MODEL, else the example's own.",
)
@name_argument
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run_example(
    ctx: click.Context, /, base_model: str, service: bool, example: Example, args: tuple[str, ...], **local: Any
) -> None:
    """Run an example against a deployment on this machine that lives as long as the program.

    ARGS are the example's own; `loops examples run NAME --help` shows them.
    """
    args = args[1:] if args[:1] == ("--",) else args
    if not service and not example.answers_help(args):
        ctx.invoke(run, base_model=base_model, script=str(example.program), args=args, **local)
    given = [name for name in ("base_model", *local) if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT]
    if service and set(given) - {"base_model"}:
        option = given[-1].replace("_", "-")
        raise click.UsageError(f"--{option} is about a deployment on this machine, and --service asks for another one.")
    model = {"LOOPS_BASE_MODEL": base_model} if given else {}
    sys.exit(asyncio.run(run_script([sys.executable, str(example.program), *args], {**os.environ, **model})))
