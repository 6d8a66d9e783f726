"""How a benchmark is run: contestants in fresh processes, interleaved; what counts is the ratio within one round.

A benchmark is a file with one `Contest` in it. The parent process starts what the contestants talk to, then runs every
contestant once per round and case, each in an interpreter of its own (the same file, told by `--contestant` whom to
play), and reads the figures that it prints. A goal is held against the median over the rounds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs
from _report import Spread, spread, table

#: What one contestant measured in one round, by name: `wall_s`, `cpu_s`, `rss_mib`, ...
Figures = dict[str, float]


@attrs.frozen
class Setting:
    """What a contestant is told: where the server is, which case it is, and whether only its working is of interest."""

    server: str = ""
    case: str = ""
    smoke: bool = False

    def size(self, full: int, smoke: int) -> int:
        return smoke if self.smoke else full


@attrs.frozen
class Contestant:
    """Somebody who does the work. Without the packages that it `needs` it is left out, and that is said; so slow a one
    that some cases would take minutes may name the `cases` it takes part in.
    """

    play: Callable[[Setting], Figures]
    needs: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


@attrs.frozen
class Goal:
    """A limit to a ratio, `of` one contestant over `against` another, or, without the latter, to the figure itself.

    Of several cases the worst counts, unless `cases` names those that do.
    """

    figure: str
    limit: float
    of: str = "ours"
    against: str | None = "raw"
    at_least: bool = False
    cases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        ratio = self.figure if self.against is None else f"{self.figure} {self.of}/{self.against}"
        return f"{ratio} ({', '.join(self.cases)})" if self.cases else ratio

    def text(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"

    def met(self, measured: float) -> bool:
        return measured >= self.limit if self.at_least else measured <= self.limit

    def worst(self, measured: list[float]) -> float:
        return min(measured) if self.at_least else max(measured)


#: case -> contestant -> one `Figures` per round
Rounds = dict[str, dict[str, list[Figures]]]


@attrs.frozen
class Contest:
    """One row of the table: the work, who does it, and what must come out."""

    name: str
    about: str | None
    contestants: Mapping[str, Contestant]
    goals: tuple[Goal, ...]
    cases: tuple[str, ...] = ("",)
    #: Starts what all contestants talk to and gives its address.
    server: Callable[[str], AbstractContextManager[str]] = lambda case: nullcontext("")
    repeats: int = 5
    limit_s: float = 300.0
    #: The cases that a smoke run tries, where others would only start more servers; default: all.
    smoke: tuple[str, ...] = ()

    def main(self) -> None:
        """The command line of the file."""
        parser = argparse.ArgumentParser(description=self.about, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--repeats", type=int, default=self.repeats, help="rounds (default %(default)s)")
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
        parser.add_argument("--smoke", action="store_true", help="one small round: shows that it works")
        parser.add_argument("--contestant", choices=list(self.contestants), help=argparse.SUPPRESS)
        parser.add_argument("--setting", type=json.loads, default={}, help=argparse.SUPPRESS)
        options = parser.parse_args()
        if options.contestant:
            print(json.dumps(self.contestants[options.contestant].play(Setting(**options.setting))))
            return
        rounds = self._run(1 if options.smoke else options.repeats, smoke=options.smoke)
        written = self._conclude(rounds, smoke=options.smoke)
        if options.json:
            options.json.write_text(json.dumps(written, indent=2) + "\n")

    def _run(self, repeats: int, smoke: bool) -> Rounds:
        present = []
        for name, contestant in self.contestants.items():
            if missing := contestant.missing():
                print(f"{self.name}: without {name}, which needs {', '.join(missing)}")
            else:
                present.append(name)
        rounds: Rounds = {}
        for case in (self.smoke if smoke else ()) or self.cases:
            playing = [name for name in present if case in (self.contestants[name].cases or self.cases)]
            rounds[case] = {name: [] for name in playing}
            with self.server(case) as address:
                setting = Setting(address, case, smoke)
                for turn in range(repeats):
                    for name in playing[turn % len(playing) :] + playing[: turn % len(playing)]:
                        rounds[case][name].append(self._play(name, setting))
        return rounds

    def _play(self, name: str, setting: Setting) -> Figures:
        told = ["--contestant", name, "--setting", json.dumps(attrs.asdict(setting))]
        # With bytecode, as installed packages have it: else every interpreter would compile our sources anew.
        env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        env["LOOPS_PROGRESS"] = "0"  # nobody looks at what a contestant waits for, also where a terminal looks on
        command = [sys.executable, sys.argv[0], *told]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=self.limit_s, env=env)
        if done.returncode:
            raise SystemExit(f"{self.name}: {name} failed with exit code {done.returncode} (case {setting.case!r})")
        figures: Figures = json.loads(done.stdout.splitlines()[-1])
        return figures

    def _conclude(self, rounds: Rounds, smoke: bool) -> dict[str, Any]:
        """Print figures, ratios and verdicts; give what goes to the file."""
        details: dict[str, Any] = {}
        for case, players in rounds.items():
            figures = {name: _spreads(turns) for name, turns in players.items()}
            details[case or "all"] = {"figures": figures, "ratios": {}}
            print(table(f"{self.name}{f' ({case})' if case else ''}", figures))
        row: dict[str, Any] = {"goal": {}, "measured": {}, "met": True}
        for goal in self.goals:
            medians = []
            for case in goal.cases or self.cases:
                if ratios := self._ratios(goal, rounds.get(case, {})):
                    details[case or "all"]["ratios"][goal.name] = ratios
                    medians.append(ratios["median"])
            if not medians:
                continue
            measured = goal.worst(medians)
            row["goal"][goal.name], row["measured"][goal.name] = goal.text(), measured
            row["met"] = row["met"] and goal.met(measured)
            verdict = "" if smoke else ": met" if goal.met(measured) else ": NOT met"
            print(f"{self.name}: {goal.name} {measured:.3g}, goal {goal.text()}{verdict}", flush=True)
        return {"rows": {self.name: row}, "details": details}

    def _ratios(self, goal: Goal, players: Mapping[str, list[Figures]]) -> Spread | None:
        ours = players.get(goal.of, [])
        if goal.against is None:
            values = [one[goal.figure] for one in ours if goal.figure in one]
        else:
            pairs = zip(ours, players.get(goal.against, []), strict=False)
            values = [one[goal.figure] / max(other[goal.figure], 1e-9) for one, other in pairs]
        return spread(values) if values else None


def _spreads(turns: list[Figures]) -> dict[str, Spread]:
    return {name: spread([turn[name] for turn in turns]) for name in turns[0]}


@contextmanager
def listening(script: str, *told: str) -> Iterator[int]:
    """The port that a script of ours prints when it listens; it runs until the block is left."""
    command = [sys.executable, script, *told]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.stdin.close()  # which ends it, as our own death would


class Meter:
    """Wall time, CPU time of this process and the memory that its peak lay above its start, of what is done within."""

    def __enter__(self) -> Meter:
        _forget_peak()
        self._rss = _rss_mib()
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        self.figures: Figures = {"wall_s": wall, "cpu_s": cpu, "rss_mib": max(0.0, _peak_mib() - self._rss)}


def _forget_peak() -> None:
    """Let the peak of resident memory begin anew, where the kernel can."""
    with suppress(OSError):  # the peak is that of the whole process then, the same for every contestant
        Path("/proc/self/clear_refs").write_text("5")


def _rss_mib() -> float:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return _peak_mib()


def _peak_mib() -> float:
    try:
        (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
