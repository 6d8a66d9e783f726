"""`Finding`: what one check says. Checks run at the same time, each for a bounded time; none fails the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal, TypeAlias

import attrs

__all__ = ["Check", "Finding", "State", "found"]

#: ``"remark"`` is worth knowing, and nothing that must be mended.
State = Literal["fine", "remark", "broken"]
#: Seconds that one check may take.
_BOUND = 15.0


@attrs.frozen
class Finding:
    """What was looked at, how it is, and what to do about it.

    Attributes:
        name: a word or two.
        advice: the next command or line; empty when there is nothing to do.
    """

    name: str
    state: State
    told: str
    advice: str = ""


#: Gives its findings one by one, so that what it has found stays found when its time is up.
Check: TypeAlias = Callable[[], AsyncIterator[Finding]]


async def found(checks: Sequence[tuple[str, Check]], bound: float = _BOUND) -> list[Finding]:
    """What all checks find, in their order.

    Args:
        checks: each with the name that it has when it does not come to an end.
        bound: seconds for each.
    """
    every = await asyncio.gather(*(_bounded(name, check, bound) for name, check in checks))
    return [finding for findings in every for finding in findings]


async def _bounded(name: str, check: Check, bound: float) -> list[Finding]:
    findings: list[Finding] = []
    try:
        async with asyncio.timeout(bound):
            async for finding in check():
                findings.append(finding)
    except TimeoutError:
        findings.append(Finding(name, "broken", f"no answer within {bound:g} s", "try again; is the network up?"))
    except Exception as error:  # a check that is at fault itself; what it held may be the key and is not shown
        findings.append(Finding(name, "remark", f"could not be looked at ({type(error).__name__})"))
    return findings
