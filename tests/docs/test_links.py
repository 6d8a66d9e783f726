"""Links of the README lead to files and headings that are there. Those of the pages are checked by the site."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def slugs(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_of_the_readme_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert links
    for link in links:
        if re.match(r"https?:", link):
            assert re.fullmatch(r"https://[\w.-]+(/\S*)?", link), link
            continue
        name, _, anchor = link.partition("#")
        path = ROOT / name if name else ROOT / "README.md"
        assert path.exists(), link
        assert not anchor or anchor in slugs(path.read_text(encoding="utf-8")), link


def test_addresses_of_others_are_whole() -> None:
    pages = (ROOT / "loops_sdk" / "docs").rglob("*.md")
    links = {link for path in pages for link in re.findall(r"\]\((\w+:[^)]+)\)", path.read_text(encoding="utf-8"))}
    assert [link for link in links if not re.fullmatch(r"https://[\w.-]+(/\S*)?", link)] == []
