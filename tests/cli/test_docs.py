"""`loops docs`: pages are found by their names, printed as they are, and made into HTML whose links hold together."""

from __future__ import annotations

import json
import re
import webbrowser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import loops_sdk
from loops_sdk.cli.docs import docs, write_html

PAGES = Path(loops_sdk.__file__).parent / "docs"


def loops_docs(*arguments: str) -> Result:
    return CliRunner().invoke(docs, arguments)


def test_a_page_is_printed_as_it_is_where_nobody_looks() -> None:
    printed = loops_docs("concepts/order").output
    assert printed == (PAGES / "concepts" / "order.md").read_text(encoding="utf-8")


def test_remarks_to_those_who_keep_a_page_are_left_out() -> None:
    assert "<!-- not run" in (PAGES / "tutorial.md").read_text(encoding="utf-8")
    assert "<!--" not in loops_docs("tutorial").output


@pytest.mark.parametrize("name", ["order", "concepts/order", "concepts/order.md"])
def test_a_name_may_be_short(name: str) -> None:
    assert loops_docs(name).output.startswith("# Order, futures and time\n")


def test_without_a_name_it_is_the_one_that_leads_to_all_others() -> None:
    assert "tutorial.md" in loops_docs().output


@pytest.mark.parametrize(("name", "meant"), [("tutorail", "'tutorial'"), ("errors", ""), ("../errors", "")])
def test_a_name_that_is_none(name: str, meant: str) -> None:
    if name == "errors":  # there are two, and the one above is meant
        assert loops_docs(name).output.startswith("# Errors\n")
        return
    result = loops_docs(name)
    assert result.exit_code == 2
    assert f"there is no page '{name}'" in result.output
    assert meant in result.output


def test_the_pages_are_named() -> None:
    rows = json.loads(loops_docs("--list", "--json").output)
    assert {row["page"] for row in rows} == {
        path.relative_to(PAGES).with_suffix("").as_posix() for path in PAGES.rglob("*.md")
    }
    assert rows[0] == {"page": "index", "title": "loops-sdk", "path": str(PAGES / "index.md")}
    assert all(row["title"] in loops_docs("--list").output for row in rows)


def test_one_document_is_of_the_list_only() -> None:
    result = loops_docs("tutorial", "--json")
    assert (result.exit_code, "--json goes with --list" in result.output) == (2, True)


def test_links_and_pictures_hold_together_in_html(tmp_path: Path) -> None:
    folder = write_html(PAGES, tmp_path / "docs")
    pages = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}
    assert len(pages) == len(list(PAGES.rglob("*.md")))
    checked = 0
    for path, text in pages.items():
        for address in re.findall(r'(?:href|src)="([^":]+)"', text):
            name, _, anchor = address.partition("#")
            target = (path.parent / name).resolve() if name else path
            assert target.is_file(), f"{path}: {address}"
            assert not anchor or f'id="{anchor}"' in target.read_text(encoding="utf-8"), f"{path}: {address}"
            checked += 1
    assert checked > 500


def test_the_browser_is_sent_to_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr("click.get_app_dir", lambda _name: str(tmp_path))
    result = loops_docs("howto/rl", "--web")
    assert result.output.strip() == str(tmp_path / "docs" / "howto" / "rl.html")
    assert opened == [(tmp_path / "docs" / "howto" / "rl.html").as_uri()]
