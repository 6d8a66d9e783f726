"""The pages as a site: it builds without a warning, searches without a server of others, and asks nobody else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .blocks import DOCS, ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Absolute: mkdocs looks for a relative one beside its configuration.
    folder = Path(os.environ.get("LOOPS_SITE") or tmp_path_factory.mktemp("site")).absolute()
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean"]  # --quiet would not count warnings
    done = subprocess.run(
        [*command, "-f", str(ROOT / ".ci" / "mkdocs.yml"), "-d", str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_on_it(site: Path) -> None:
    pages = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert pages <= {path.relative_to(site) for path in site.rglob("*.html")}
    assert not list(site.rglob("*.py"))


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """Links lead where they like; scripts, styles, fonts and pictures are here."""
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\">\s]+)", text)
        fetched += re.findall(r"<link\b[^>]*\brel=\"?(?:stylesheet|icon|pre)[^>]*\bhref=\"?([^\">\s]+)", text)
        assert fetched
        assert [one for one in fetched if re.match(r"(https?:)?//", one)] == [], path


def test_it_can_be_searched(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert any("policy version" in entry["text"].lower() for entry in index["docs"])
