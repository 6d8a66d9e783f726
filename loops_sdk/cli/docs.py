"""``loops docs``: the pages that ship with the package, in a terminal or, made into HTML here, in a browser.

A page is plain Markdown and named by its path without the ending: ``tutorial``, ``howto/rl``. What stands on it is no
affair of this command, which needs no network.
"""

from __future__ import annotations

import difflib
import html
import re
import shutil
import sys
import webbrowser
from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path

import click
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console
from rich.markdown import Markdown

from loops_sdk.cli.output import json_option, print_json, print_table

_INDEX = "index"
_COMMENT = re.compile(r"^<!-- .* -->\n", re.MULTILINE)


def _shipped(ctx: click.Context) -> Path:
    """The folder of the pages, there until the command ends."""
    opened = ctx.with_resource(ExitStack())
    return opened.enter_context(as_file(files("loops_sdk") / "docs"))


def _pages(folder: Path) -> dict[str, Path]:
    """The pages by name, those of the first level first."""
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.md")}
    return dict(sorted(found.items(), key=lambda item: (item[0] != _INDEX, item[0].count("/"), item[0])))


def _text(path: Path) -> str:
    """What is on a page, without remarks to those who keep it."""
    return _COMMENT.sub("", path.read_text(encoding="utf-8"))


def _title(path: Path) -> str:
    return next((line[2:] for line in _text(path).splitlines() if line.startswith("# ")), path.stem)


def _named(ctx: click.Context, _param: click.Parameter, name: str) -> str:
    """A page by its name, or by the last part of it where that is one page's only."""
    known = _pages(_shipped(ctx))
    name = name.removesuffix(".md").strip("/")
    candidates = [name] if name in known else [one for one in known if one.rpartition("/")[2] == name]
    if len(candidates) != 1:
        near = candidates or difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise click.BadParameter(f"there is no page {name!r}.{meant} `loops docs --list` names them all.")
    return candidates[0]


def _completed(ctx: click.Context, _param: click.Parameter, beginning: str) -> list[str]:
    return [name for name in _pages(_shipped(ctx)) if name.startswith(beginning)]


@click.command(short_help="The documentation, in the terminal or in a browser, offline.")
@click.argument("page", metavar="[PAGE]", default=_INDEX, callback=_named, shell_complete=_completed)
@click.option("--list", "listing", is_flag=True, help="Name the pages.")
@click.option(
    "--web",
    is_flag=True,
    help="Make HTML of all pages, in the user's folder of this program, and open PAGE in a browser.",
)
@json_option
@click.pass_context
def docs(ctx: click.Context, page: str, listing: bool, web: bool, as_json: bool) -> None:
    """Show a page of the documentation. Without PAGE it is the one that leads to all others.

    On a terminal it is shown page by page; elsewhere its Markdown is printed as it is.
    """
    folder = _shipped(ctx)
    pages = _pages(folder)
    if listing:
        rows = [[name, _title(path)] for name, path in pages.items()]
        if as_json:
            print_json([{"page": name, "title": title, "path": str(pages[name])} for name, title in rows])
        else:
            print_table(["PAGE", "TITLE"], rows, empty="this package has no pages")
    elif as_json:
        raise click.UsageError("--json goes with --list.")
    elif web:
        written = write_html(folder, Path(click.get_app_dir("loops-sdk"), "docs")) / f"{page}.html"
        click.echo(written)
        webbrowser.open(written.as_uri())
    elif sys.stdout.isatty():
        console = Console(width=min(Console().width, 100))
        with console.capture() as shown:
            console.print(Markdown(_text(pages[page])))
        click.echo_via_pager(shown.get())
    else:
        click.echo(_text(pages[page]), nl=False)


def write_html(source: Path, target: Path) -> Path:
    """All pages as HTML in `target`, which is made anew, with the pictures they show; gives `target`."""
    shutil.rmtree(target, ignore_errors=True)
    for path in (one for one in source.rglob("*") if one.is_file()):
        made = target / path.relative_to(source)
        if path.suffix in (".md", ".png", ".svg"):
            made.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            made.with_suffix(".html").write_text(_html(path, source), encoding="utf-8")
        elif path.suffix in (".png", ".svg"):
            shutil.copyfile(path, made)
    return target


def _html(path: Path, source: Path) -> str:
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(_text(path))
    _link(tokens)
    body = markdown.renderer.render(tokens, markdown.options, {})
    home = "../" * (len(path.relative_to(source).parts) - 1) + "index.html"
    return _FRAME.format(title=html.escape(_title(path)), home=home, body=body)


def _link(tokens: list[Token]) -> None:
    """Headings get the anchors that links to them name, and links lead to the pages of this form."""
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            words = tokens[number + 1].content.lower().replace(" ", "-")
            token.attrSet("id", re.sub(r"[^\w-]", "", words))
        for child in token.children or []:
            address = child.attrGet("href") if child.type == "link_open" else None
            if isinstance(address, str) and "://" not in address:
                child.attrSet("href", re.sub(r"\.md(?=#|$)", ".html", address))


_FRAME = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title} - loops-sdk</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.55 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }}
pre {{ overflow-x: auto; padding: .8rem; border-radius: .4rem; background: #8882 }}
code {{ font: .88em ui-monospace, monospace }}
table {{ border-collapse: collapse }}
th, td {{ text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #8885 }}
img {{ max-width: 100% }}
</style>
<nav><a href="{home}">loops-sdk</a></nav>
{body}</html>
"""
