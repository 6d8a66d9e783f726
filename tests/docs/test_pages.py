"""The pages: that every public name is on one, that links lead somewhere, and what the generator refuses."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from loops_sdk.docs import _environment, _generate, _items, _pages, _texts
from loops_sdk.docs._reading import DOORS

ROOT = Path(__file__).parents[2]
PAGES = Path("loops_sdk", "docs", "reference")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The sources the generator reads and the pages it writes, to be spoilt."""
    for package in ("loops_sdk", "loops_sdk_sync", _texts.CASES):
        for path in (ROOT / package).rglob("*"):
            if path.suffix in (".py", ".md", ".txt"):
                copy = tmp_path / path.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
    return tmp_path


def generate(tree: Path, *arguments: str) -> tuple[int, str]:
    with contextlib.redirect_stderr(io.StringIO()) as said:
        status = _generate.main(["--root", str(tree), *arguments])
    return status, said.getvalue()


def pages(tree: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (tree / PAGES).glob("*.md")}


def replace(path: Path, old: str, new: str) -> int:
    """Spoil one place; the number of its line."""
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1


# ------------------------------------------------------------------ what is on the pages


def slugs(text: str) -> list[str]:
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return [re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_every_link_leads_to_a_heading() -> None:
    known = pages(ROOT)
    links = {(name, link) for name, text in known.items() for link in re.findall(r"\]\(([^)]+)\)", text)}
    assert len(links) > 200
    for name, link in links - {("texts.md", "../errors.md")}:
        page, _, anchor = link.partition("#")
        assert page in known, f"{name}: {link}"
        assert not anchor or anchor in slugs(known[page]), f"{name}: {link}"


def test_a_heading_stands_once_on_its_page() -> None:
    for name, text in pages(ROOT).items():
        found = slugs(text)
        assert len(found) == len(set(found)), name


def public() -> Iterator[tuple[str, str, object]]:
    for door in DOORS:
        module = import_module(door)
        for name in module.__all__:
            yield door, name, getattr(module, name)


#: What `loops_sdk_sync.baseten.models` gives the values where it is imported.
OF_THE_SERVICE = {"model_dump", "model_validate"}


def members(kind: type) -> set[str]:
    """What a class shows, as Python sees it: methods and properties of its own and of private bases."""
    every = {value for _, _, value in public() if inspect.isclass(value)}
    owners = [kind, *(base for base in kind.__mro__[1:] if "loops_sdk" in base.__module__ and base not in every)]
    shown = {name for owner in owners for name, value in vars(owner).items() if callable(value) or _is_bound(value)}
    return {name for name in shown if not name.startswith("_")} - {"Self"} - OF_THE_SERVICE


def _is_bound(value: object) -> bool:
    return isinstance(value, property | classmethod | staticmethod)


def test_every_public_name_and_member_has_a_heading() -> None:
    everything = "\n".join(pages(ROOT).values())
    for door, name, value in public():
        assert f"\n## {name}\n" in everything, f"{door}.{name}"
        if inspect.isclass(value) and "_generated" not in value.__module__:
            for member in members(value):
                assert f"\n### {value.__name__}: {member}\n" in everything, f"{door}.{name}.{member}"


def test_every_form_of_a_blocking_client_is_in_its_table() -> None:
    import loops_sdk_sync

    page = pages(ROOT)["sync.md"]
    for kind in (loops_sdk_sync.ServiceClient, loops_sdk_sync.TrainingClient, loops_sdk_sync.SamplingClient):
        for member in members(kind):
            assert re.search(rf"\| `(await )?{member}(\(\.\.\.\))?` \|", page), f"{kind.__name__}.{member}"


def test_an_argument_of_a_signature_is_explained_below_it() -> None:
    text = pages(ROOT)["training.md"]
    section = text[text.index("### TrainingClient: forward_async") : text.index("### TrainingClient: optim_step_async")]
    assert "    loss_fn_config: Mapping[str, Any] | None = None,\n) -> ForwardBackwardFuture" in section
    link = "[`forward_backward_async`](training.md#trainingclient-forward_backward_async)"
    assert f"- `data`, `loss_fn`, `loss_fn_config`: as in {link}." in section


# ------------------------------------------------------------------ the check


def test_the_tree_as_it_is_is_current(tree: Path) -> None:
    assert generate(tree, "--check") == (0, "")


def test_it_runs_as_a_script_where_nothing_can_be_imported(tree: Path) -> None:
    (tree / PAGES / "types.md").unlink()
    command = [sys.executable, "-E", "-S", str(tree / "loops_sdk" / "docs" / "_generate.py")]
    for arguments, status in ((["--check"], 1), ([], 0), (["--check"], 0)):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == status, done.stderr


SPOILT: dict[str, Callable[[Path], object]] = {
    "a changed line": lambda docs: replace(docs / "types.md", "One training example.", "One example."),
    "a missing tail": lambda docs: (docs / "types.md").write_text((docs / "types.md").read_text()[:-1]),
    "an extra page": lambda docs: (docs / "more.md").write_text("# More\n"),
    "a page in a folder": lambda docs: shutil.copytree(docs, docs / "more", ignore=shutil.ignore_patterns("more")),
    "a file of another kind": lambda docs: (docs / "more.py").write_text(""),
    "a removed page": lambda docs: (docs / "sync.md").unlink(),
    "a changed docstring": lambda docs: replace(docs.parents[1] / "types" / "inputs.py", "One training", "A training"),
    "a changed default": lambda docs: replace(
        docs.parents[1] / "types" / "training.py", "default=1e-4", "default=1e-3"
    ),
    "a changed constant": lambda docs: replace(
        docs.parents[1] / "local" / "stack" / "local_stack.py", '= "loops_sdk.local.engine.torch_engine"', '= "other"'
    ),
    "a crashing input": lambda docs: replace(docs.parents[1] / "errors.py", "class LoopsError(", "class LoopsError"),
    "a removed input": lambda docs: (docs.parents[1] / "errors.py").unlink(),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_difference_is_noticed_and_nothing_is_written(tree: Path, name: str) -> None:
    SPOILT[name](tree / PAGES)
    before = {path: path.read_bytes() for path in tree.rglob("*.*")}
    status, said = generate(tree, "--check")
    assert status != 0
    assert said
    assert {path: path.read_bytes() for path in tree.rglob("*.*")} == before


@pytest.mark.parametrize("name", [name for name in SPOILT if "input" not in name and "another kind" not in name])
def test_generating_mends_it(tree: Path, name: str) -> None:
    SPOILT[name](tree / PAGES)
    assert generate(tree) == (0, "")
    assert generate(tree, "--check") == (0, "") or name == "a page in a folder"


def test_only_pages_are_ever_removed(tree: Path) -> None:
    docs = tree / PAGES
    (docs / "precious.py").write_text("mine = 1\n")
    (docs / "old.md").write_text("# Old\n")
    assert generate(tree) == (0, "")
    assert (docs / "precious.py").read_text() == "mine = 1\n"
    assert not (docs / "old.md").exists()
    assert generate(tree, "--check")[0] == 1


# ------------------------------------------------------------------ shapes

TARGET = "loops_sdk/types/inputs.py"
HOOK = '    @property\n    def length(self) -> int:\n        """Number of positions this chunk takes."""\n'


def plant(tree: Path, method: str) -> int:
    """A member more for `EncodedTextChunk`; the number of its first line."""
    return replace(tree / TARGET, HOOK, f"{method}\n{HOOK}")


DOC = '        """Do it."""\n'
REFUSED = {
    "a method without documentation": ("    def thing(self) -> int:\n        return 1\n", "thing"),
    "a property without documentation": ("    @property\n    def thing(self) -> int:\n        return 1\n", "thing"),
    "a parameter without documentation": (f"    def thing(self, a: int) -> int:\n{DOC}", "a is not documented"),
    "a parameter of many": (
        '    def thing(self, a: int, *, b: int = 1) -> int:\n        """Do it with `a`."""\n',
        "b is not documented",
    ),
    "a parameter without annotation": ('    def thing(self, a) -> int:\n        """Do `a`."""\n', "without annotation"),
    "a result without annotation": (f"    def thing(self):\n{DOC}", "no annotation"),
    "an unknown decorator": (f"    @cache\n    def thing(self) -> int:\n{DOC}", "no rule for the decorator cache"),
    "a class in a class": (f"    class Thing:\n{DOC}", "a public class in a class"),
    "an unknown section": (
        '    def thing(self) -> int:\n        """Do it.\n\n        Hints:\n            none\n        """\n',
        "Hints: no such section",
    ),
    "a section without an empty line": (
        '    def thing(self) -> int:\n        """Do it.\n        Raises:\n            E: e\n        """\n',
        "a section without an empty line",
    ),
    "an entry without a meaning": (
        '    def thing(self, a: int) -> int:\n        """Do it.\n\n        Args:\n            a number\n        """\n',
        "expected `name: meaning`",
    ),
    "a reference to nowhere": (
        '    def thing(self) -> int:\n        """See `Nowhere`."""\n',
        "`Nowhere` names",
    ),
    "a reference to no member": ('    def thing(self) -> int:\n        """See `Datum.no`."""\n', "`Datum.no` names"),
    "a private default": (f"    def thing(self, a: int = _nothing) -> int:\n{DOC}", "_nothing: a private default"),
    "an error that is none": (
        '    def thing(self) -> int:\n        """Do it.\n\n        Raises:\n            BadError: x\n        """\n',
        "`BadError` names nothing public",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_not_understand_is_refused_with_file_and_line(tree: Path, name: str) -> None:
    method, reason = REFUSED[name]
    line = plant(tree, method)
    before = pages(tree)
    status, said = generate(tree)
    assert status == 2, said
    found = re.search(r"inputs\.py:(\d+): (.+)", said)
    assert found, said
    assert line <= int(found[1]) <= line + method.count("\n")
    assert reason in found[2]
    assert pages(tree) == before


SHOWN = {
    "every kind of parameter": (
        (
            "    def thing(self, a: int, /, b: int = 1, *c: int, d: Callable[[int], str], **e: int) -> int:\n"
            '        """Do `a`, `b`, `c`, `d` and `e`."""\n'
        ),
        "def thing(a: int, /, b: int = 1, *c: int, d: Callable[[int], str], **e: int) -> int\n```\n\nDo `a`, `b`,",
    ),
    "a class method with keywords only": (
        (
            f"    @classmethod\n    async def thing(cls, *, many_characters_{'x' * 80}: int = 3) -> Self:\n"
            f'        """Do `many_characters_{"x" * 80}`."""\n'
        ),
        f"@classmethod\nasync def thing(\n    *,\n    many_characters_{'x' * 80}: int = 3,\n) -> Self\n```",
    ),
    "a static method": (
        '    @staticmethod\n    def thing(a: int) -> int:\n        """Do `a`."""\n',
        "@staticmethod\ndef thing(a: int) -> int\n",
    ),
    "an annotation over several lines": (
        '    def thing(self, a: dict[\n        str, int\n    ]) -> int:\n        """Do `a`."""\n',
        "def thing(a: dict[ str, int ]) -> int",
    ),
    "a list and code": (
        (
            '    def thing(self) -> int:\n        """Do it.\n\n        * one <x>\n        * two,\n          three\n\n'
            '            a = 1\n\n            b = 2\n        """\n'
        ),
        "- one &lt;x>\n- two, three\n\n```python\na = 1\n\nb = 2\n```\n",
    ),
    "arguments that another method explains": (
        '    def thing(self, prompt: int) -> int:\n        """As `SamplingClient.sample_async`."""\n',
        "- `prompt`: as in [`SamplingClient.sample_async`](sampling.md#samplingclient-sample_async).",
    ),
    "arguments explained over two corners": (
        '    def thing(self, sampling_params: int) -> int:\n        """As `SamplingClient.compute_logprobs`."""\n',
        "- `sampling_params`: as in [`SamplingClient.compute_logprobs`](sampling.md#samplingclient-compute_logprobs_",
    ),
    "a field": (
        '    def thing(self) -> int:\n        """See `Checkpoint.id`."""\n',
        "[`Checkpoint.id`](types.md#checkpoint)",
    ),
    "a blocking name": (
        '    def thing(self) -> int:\n        """See `optim_step`."""\n',
        "See [`optim_step`](training.md#trainingclient-optim_step_async).",
    ),
    "a constant": (
        "    #: How many.\n    THING = 3\n",
        "### EncodedTextChunk: THING\n\n```python\nTHING = 3\n```\n\nHow",
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_known_shape_is_shown(tree: Path, name: str) -> None:
    method, expected = SHOWN[name]
    plant(tree, method)
    assert generate(tree) == (0, "")
    assert expected in pages(tree)["types.md"]


def test_a_new_public_name_is_shown_or_refused(tree: Path) -> None:
    front = tree / "loops_sdk" / "__init__.py"
    (tree / "loops_sdk" / "_clients" / "custom.py").write_text('def attach() -> None:\n    """Attach it."""\n')
    replace(front, '    "from_dict",', '    "attach",\n    "from_dict",')
    status, said = generate(tree)
    assert status == 2
    assert "attach: public, but not defined in our sources" in said
    replace(
        front,
        "from loops_sdk.errors import (",
        "from loops_sdk._clients.custom import attach\nfrom loops_sdk.errors import (",
    )
    assert generate(tree) == (0, "")
    assert "## attach\n\n```python\ndef attach() -> None\n```\n\nAttach it.\n" in pages(tree)["training.md"]
    shutil.move(tree / "loops_sdk" / "_clients" / "custom.py", tree / "loops_sdk" / "custom.py")
    replace(front, "loops_sdk._clients.custom", "loops_sdk.custom")
    status, said = generate(tree)
    assert status == 2
    assert "attach: no page shows the public names of loops_sdk/custom.py" in said


@pytest.mark.parametrize(
    "table",
    [_pages.PAGES, _pages.PLACED, _items.MADE, _environment.ENVIRONMENT],
    ids=["pages", "placed", "made", "env"],
)
def test_a_rule_that_nothing_used_is_refused(tree: Path, table: object, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(table, set):
        monkeypatch.setattr(_pages, "MADE", {*table, "Nothing"})
        monkeypatch.setattr(_generate, "MADE", {*table, "Nothing"})
    else:
        assert isinstance(table, dict)
        empty = _pages.Page("Nothing", "", ()) if table is _pages.PAGES else "errors"
        monkeypatch.setitem(table, "Nothing", empty)
    status, said = generate(tree)
    assert status == 2
    assert "rules that nothing used: Nothing" in said


# ------------------------------------------------------------------ the texts of errors


def test_every_case_of_the_errors_is_shown() -> None:
    page = pages(ROOT)["texts.md"]
    cases = list((ROOT / _texts.CASES).glob("*.txt"))
    assert page.count("\n### ") == len(cases) > 50


def test_a_case_of_another_form_is_refused(tree: Path) -> None:
    replace(tree / _texts.CASES / "no_key.txt", "topic: key", "topic: keys")
    status, said = generate(tree)
    assert status == 2
    assert "no_key.txt:1: no case of a known form" in said


# ------------------------------------------------------------------ the environment

READS = {
    "a literal": 'value = os.environ.get("LOOPS_NEW", "1")\n',
    "a subscript": 'value = os.environ["LOOPS_NEW"]\n',
    "another function": 'value = os.getenv("LOOPS_NEW")\n',
    "a constant": '_NAME = "LOOPS_NEW"\nvalue = os.environ.get(_NAME)\n',
    "a parameter": (
        'def read(name: str) -> str | None:\n    return os.environ.get(name)\n\n\none = read("LOOPS_NEW")\n'
    ),
    "a constant from elsewhere": "from loops_sdk._net.named import NAME\nvalue = os.environ.get(NAME)\n",
}


@pytest.mark.parametrize("name", READS)
def test_a_variable_that_is_not_explained_is_refused(tree: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "loops_sdk" / "_net" / "named.py").write_text('NAME = "LOOPS_NEW"\n')
    path = tree / "loops_sdk" / "_net" / "reading.py"
    path.write_text(f"import os\n\n{READS[name]}")
    status, said = generate(tree)
    assert status == 2
    assert re.search(r"reading\.py:[34]: LOOPS_NEW: read here, but not in ENVIRONMENT", said)
    monkeypatch.setitem(_environment.ENVIRONMENT, "LOOPS_NEW", "New: see `ServiceClient`.")
    assert generate(tree) == (0, "")
    assert "- `LOOPS_NEW`: New: see [`ServiceClient`](service.md#serviceclient).\n" in pages(tree)["environment.md"]


UNREADABLE = {
    "a computed name": 'value = os.environ.get("LOOPS_" + "NEW")\n',
    "a parameter that nobody gives": "def read(name: str) -> str | None:\n    return os.environ.get(name)\n",
    "a parameter that is given a computed name": (
        'def read(name: str) -> str | None:\n    return os.environ.get(name)\n\n\none = read("LOOPS_" + "NEW")\n'
    ),
    "a loop": "values = [name for name in os.environ]\n",
    "the whole": "values = dict(os.environ)\n",
    "another method": 'value = os.environ.setdefault("LOOPS_NEW", "1")\n',
    "a test": 'value = "LOOPS_NEW" in os.environ\n',
    "another name": "from os import environ\n",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_use_of_the_environment_that_hides_its_variable_is_refused(tree: Path, name: str) -> None:
    (tree / "loops_sdk" / "_net" / "reading.py").write_text(f"import os\n\n{UNREADABLE[name]}")
    status, said = generate(tree)
    assert status == 2
    assert re.search(r"reading\.py:[347]: .*(environ|environment|not a constant)", said)
