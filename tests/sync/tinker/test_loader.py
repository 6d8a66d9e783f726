"""`install`: which names become ours, that no module is there twice, who else is told, and the way back."""

from __future__ import annotations

import os
import pickle
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import loops_sdk_sync.baseten
from loops_sdk import LoopsError
from loops_sdk_sync.tinker import loader

from .conftest import Run

INSTALL = "from loops_sdk_sync.tinker.loader import install, uninstall\ninstall()\n"


def said(run: Run, code: str, *paths: Path) -> list[str]:
    """What a program prints that calls `install` first; it must end well."""
    done = run("-W", "error", "-c", INSTALL + textwrap.dedent(code), paths=paths)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


# ------------------------------------------------------------------ one module under two names

SAME = """
import importlib, sys
pairs = {
    "tinker": "loops_sdk_sync.tinker",
    "tinker.loader": "loops_sdk_sync.tinker.loader",
    "baseten.loops": "loops_sdk_sync.baseten",
    "baseten.loops.models": "loops_sdk_sync.baseten.models",
    "baseten.loops.helpers.datum": "loops_sdk_sync.baseten.helpers.datum",
}
for alias, own in pairs.items() if FIRST == "alias" else [(own, alias) for alias, own in pairs.items()]:
    first, second = importlib.import_module(alias), importlib.import_module(own)
    assert first is second, alias
for alias, own in pairs.items():
    module = sys.modules[alias]
    assert (module.__name__, module.__spec__.name) == (own, own), alias
    assert module.__spec__.loader is module.__loader__
    assert importlib.reload(module) is sys.modules[alias] is sys.modules[own], alias
    assert importlib.util.find_spec(alias) is module.__spec__
copies = [name for name, module in sys.modules.items() if "loops_sdk_sync" in str(getattr(module, "__file__", None))]
assert len({sys.modules[name].__file__ for name in copies}) == len({id(sys.modules[name]) for name in copies})
print("the same")
"""


@pytest.mark.parametrize("first", ["alias", "own"])
@pytest.mark.parametrize("beside", [True, False], ids=["beside the originals", "alone"])
def test_a_module_is_the_same_under_both_names(python: Run, originals: Path, first: str, beside: bool) -> None:
    code = f"import importlib.util\nFIRST = {first!r}\n{SAME}"
    assert said(python, code, *([originals] if beside else [])) == ["the same"]


FORMS = """
import tinker.loader as a
from tinker import loader as b
import tinker.loader
from tinker.loader import REDIRECT
import baseten.loops.models as c
from baseten.loops import models as d
from baseten import loops
import baseten.loops.sampling_client
from baseten.loops.sampling_client import LocalDeployment
assert a is b is tinker.loader and a.REDIRECT is REDIRECT
assert c is d is loops.models is loops.types and baseten.loops is loops
import loops_sdk_sync
assert loops.LocalDeployment is LocalDeployment is loops_sdk_sync.LocalDeployment
print("all forms")
"""


def test_every_form_of_import(python: Run, originals: Path) -> None:
    assert said(python, FORMS, originals) == said(python, FORMS) == ["all forms"]


def test_threads_that_import_at_the_same_time_get_one_module(python: Run) -> None:
    code = """
    import importlib, sys, threading
    names = ["tinker", "loops_sdk_sync.tinker", "baseten.loops.models", "loops_sdk_sync.baseten.models"] * 4
    start, got = threading.Barrier(len(names)), []
    def work(name):
        start.wait()
        got.append((name.rpartition(".")[2], id(importlib.import_module(name))))
    threads = [threading.Thread(target=work, args=[name]) for name in names]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(len(got), len(set(got)))
    """
    assert said(python, code) == ["16 2"]


def test_values_travel_under_either_name(python: Run, tmp_path: Path) -> None:
    """Out of a process where the names are ours, into one where they are not, and back."""
    code = "import pickle\nfrom pathlib import Path\nfrom baseten.loops.models import Datum, EncodedTextChunk\n"
    write = code + f"Path({str(tmp_path / 'there')!r}).write_bytes(pickle.dumps(Datum([1, 2], {{'weights': [1, 0]}})))"
    said(python, write)
    datum = pickle.loads((tmp_path / "there").read_bytes())
    assert datum == loops_sdk_sync.Datum([1, 2], {"weights": [1.0, 0.0]})
    (tmp_path / "back").write_bytes(pickle.dumps(datum))
    read = code + f"print(type(pickle.loads(Path({str(tmp_path / 'back')!r}).read_bytes())) is Datum)"
    assert said(python, read) == ["True"]
    by_alias = code + "print(pickle.loads(b'cbaseten.loops.models\\nEncodedTextChunk\\n.') is EncodedTextChunk)"
    assert said(python, by_alias) == ["True"]


# ------------------------------------------------------------------ what is not ours


@pytest.mark.parametrize("name", ["tinker.cli", "tinker.telemetry", "baseten.loops.training", "tinker.loader.deep"])
def test_what_we_do_not_have_is_never_the_originals(python: Run, originals: Path, name: str) -> None:
    code = f"""
    try:
        import {name}
    except ModuleNotFoundError as error:
        print(error.name)
        print(error)
    """
    missing, text = said(python, code, originals)
    assert missing == name
    if name != "tinker.loader.deep":
        own = name.replace("baseten.loops", "loops_sdk_sync.baseten").replace("tinker.", "loops_sdk_sync.tinker.")
        assert "is the namespace of loops_sdk_sync here" in text
        assert text.endswith(f"which has no module {own!r}")


def test_other_modules_of_a_real_baseten_keep_working(python: Run, originals: Path) -> None:
    code = """
    import baseten, baseten.other, baseten.loops
    print(baseten.name, "|", baseten.other.name, "|", baseten.loops.__name__)
    """
    assert said(python, code, originals) == ["the real baseten | another module of it | loops_sdk_sync.baseten"]


def test_without_a_real_baseten_there_is_an_empty_package(python: Run) -> None:
    code = """
    import baseten
    print([name for name in vars(baseten) if not name.startswith("__")], list(baseten.__path__))
    import baseten.loops
    print([name for name in vars(baseten) if not name.startswith("__")])
    try:
        import baseten.other
    except ModuleNotFoundError as error:
        print(error)
    """
    assert said(python, code) == ["[] []", "['loops']", "No module named 'baseten.other'"]


def test_names_that_only_begin_alike_are_left_alone(python: Run, tmp_path: Path) -> None:
    for name in ("tinkerer", "baseten_loops", "tinker_cookbook"):
        (tmp_path / f"{name}.py").write_text(f"name = {name!r}")
    code = "import tinkerer, baseten_loops, tinker_cookbook as c; print(tinkerer.name, baseten_loops.name, c.name)"
    assert said(python, code, tmp_path) == ["tinkerer baseten_loops tinker_cookbook"]


# ------------------------------------------------------------------ too late, twice, never, and back


@pytest.mark.parametrize("name", ["tinker", "tinker.types", "baseten.loops"])
def test_it_refuses_once_the_original_is_there(python: Run, originals: Path, name: str) -> None:
    done = python("-c", f"import {name}\n{INSTALL}", paths=(originals,))
    assert done.returncode == 1
    (last,) = done.stderr.splitlines()[-1:]
    assert "LoopsError: " in last
    assert f"was imported already, from {originals}" in last
    assert "before the first import of it, or run the script with `python -m loops_sdk_sync.tinker SCRIPT`" in last


def test_a_real_baseten_that_is_there_already_does_no_harm(python: Run, originals: Path) -> None:
    done = python("-c", f"import baseten\n{INSTALL}\nimport baseten.loops as l; print(l.__name__)", paths=(originals,))
    assert (done.stdout, done.stderr) == ("loops_sdk_sync.baseten\n", "")


def test_without_it_nothing_changes(python: Run, originals: Path) -> None:
    code = """
import os, sys
before = dict(os.environ), list(sys.path), list(sys.meta_path)
import loops_sdk_sync.tinker, loops_sdk_sync.baseten
print(before == (dict(os.environ), list(sys.path), list(sys.meta_path)))
import tinker, baseten.loops
"""
    done = python("-c", code, paths=(originals,))
    assert (done.stdout, done.stderr) == ("True\nthe original tinker\nthe original baseten.loops\n", "")


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTHONPATH", "")
    yield
    loader.uninstall()


@pytest.mark.usefixtures("clean")
def test_it_can_be_called_twice_and_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(sys.meta_path)
    loader.install()
    loader.install()
    assert os.environ["PYTHONPATH"] == loader.REDIRECT
    import baseten.loops  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]

    assert baseten.loops is loops_sdk_sync.baseten
    loader.uninstall()
    loader.uninstall()
    assert sys.meta_path == before
    assert [name for name in sys.modules if name.partition(".")[0] in ("tinker", "baseten")] == []
    assert "PYTHONPATH" not in os.environ
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/a", "", "/b"]))
    loader.install()
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [loader.REDIRECT, "/a", "", "/b"]
    loader.uninstall()
    assert os.environ["PYTHONPATH"].split(os.pathsep) == ["/a", "", "/b"]


@pytest.mark.usefixtures("clean")
def test_an_original_that_is_there_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    original = type(sys)("tinker")
    monkeypatch.setitem(sys.modules, "tinker", original)
    with pytest.raises(LoopsError, match=r"^tinker was imported already"):
        loader.install()
    loader.uninstall()
    assert sys.modules["tinker"] is original


# ------------------------------------------------------------------ child processes

CHILD = "import sys, tinker, baseten.loops; print(tinker.__name__, baseten.loops.__name__)"
OURS = "loops_sdk_sync.tinker loops_sdk_sync.baseten"


def test_subprocesses_are_told(python: Run, originals: Path) -> None:
    code = f"""
    import subprocess, sys
    for where in (["-c", {CHILD!r}], ["-X", "dev", "-W", "error", "-c", {CHILD!r}]):
        subprocess.run([sys.executable, *where], check=True)
    subprocess.run([sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])",
        {CHILD!r}], check=True)
    uninstall()
    subprocess.run([sys.executable, "-c", {CHILD!r}], check=True)
    """
    assert said(python, code, originals) == [OURS] * 3 + [
        "the original tinker",
        "the original baseten.loops",
        "tinker baseten.loops",
    ]


WORKER = """
def work(chunk):
    import baseten.loops.models, tinker
    assert type(chunk) is baseten.loops.models.EncodedTextChunk
    return tinker.__name__, chunk
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_worker_processes_are_told(python: Run, originals: Path, tmp_path: Path, method: str) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    script = tmp_path / "script.py"
    script.write_text(
        f"import multiprocessing, warnings\n{INSTALL}\n"
        "from baseten.loops.models import EncodedTextChunk\nfrom worker import work\n"
        "if __name__ == '__main__':\n"
        "    warnings.simplefilter('ignore', DeprecationWarning)\n"
        f"    with multiprocessing.get_context({method!r}).Pool(1) as pool:\n"
        "        print(*pool.apply(work, [EncodedTextChunk([1, 2])]))"
    )
    done = python(script, paths=(originals,))
    assert (done.stdout, done.stderr) == ("loops_sdk_sync.tinker EncodedTextChunk([1, 2], length=2)\n", "")


def test_a_child_that_imports_neither_pays_nothing(python: Run) -> None:
    code = """
    import subprocess, sys
    told = "import sys; print(*sorted(sys.modules))"
    with_it = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout.split()
    uninstall()
    without = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout.split()
    print(*sorted(set(with_it) - set(without)))
    """
    assert said(python, code) in (["sitecustomize"], [""])  # the second where Python has one of its own


@pytest.mark.parametrize(
    "hidden", ["print('hidden', __name__, __file__)", "raise ImportError('its own trouble')", None]
)
def test_the_sitecustomize_that_it_hides_is_run(python: Run, tmp_path: Path, hidden: str | None) -> None:
    if hidden is not None:
        (tmp_path / "sitecustomize.py").write_text(hidden)
    told = "import sys, sitecustomize; print(sitecustomize.__file__); import tinker; print(tinker.__name__)"
    paths = (Path(loader.REDIRECT), tmp_path)
    done = python("-c", told, paths=paths)
    if hidden is None:
        assert done.stdout.splitlines()[-1] == "loops_sdk_sync.tinker"
        assert done.stderr == ""
    elif "trouble" in hidden:
        assert "its own trouble" in done.stderr
    else:
        path = tmp_path / "sitecustomize.py"
        assert done.stdout.splitlines() == [f"hidden sitecustomize {path}", str(path), "loops_sdk_sync.tinker"]


def test_a_child_takes_the_package_of_its_parent(python: Run, tmp_path: Path) -> None:
    """The parent may have it from its working directory, and another one may be on the child's path."""
    for package in ("loops_sdk", "loops_sdk_sync"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("print('another one')")
    for first in ("import tinker", "import baseten", "import loops_sdk_sync"):
        done = python("-c", f"{first}; {CHILD}", PYTHONPATH=os.pathsep.join([loader.REDIRECT, str(tmp_path)]))
        assert (done.stdout, done.stderr) == (f"{OURS}\n", "")


def test_every_module_of_ours_is_there_under_its_second_name(python: Run, originals: Path) -> None:
    """And importing it by that name leaves what its package holds under the module's name as it was."""
    code = """
    import importlib, pkgutil
    import loops_sdk_sync.baseten, loops_sdk_sync.tinker
    count = 0
    for own, alias in (("loops_sdk_sync.tinker", "tinker"), ("loops_sdk_sync.baseten", "baseten.loops")):
        package = importlib.import_module(own)
        for found in pkgutil.walk_packages(package.__path__, f"{own}."):
            if "_redirect" in found.name or found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            parent, _, last = found.name.rpartition(".")
            held = getattr(importlib.import_module(parent), last)
            assert importlib.import_module(found.name.replace(own, alias, 1)) is module, found.name
            assert getattr(importlib.import_module(parent), last) is held, found.name
            count += 1
    print(count > 20)
    """
    assert said(python, code, originals) == ["True"]
