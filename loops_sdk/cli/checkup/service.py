"""The way to a control plane: the key, the proxy, the name, the certificate, the answer and its clock; and the hosts of
the runs that are up.

The key goes where clients send it, to the control plane, and into no finding.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

from loops_sdk._clients.control import ControlPlane
from loops_sdk._net.addresses import is_loopback, origin, proxy_for
from loops_sdk._net.network import Network
from loops_sdk._net.transport import Response
from loops_sdk._wire.endpoints import CAPABILITIES
from loops_sdk.cli.checkup.findings import Check, Finding
from loops_sdk.errors import ConnectionFailedError, InvalidInputError, LoopsError, RequestTimeoutError
from loops_sdk.types import Run

__all__ = ["service"]

_API_KEY = "BASETEN_API_KEY"
#: Seconds for one step of a check.
_STEP = 8.0
#: Seconds that clocks may differ: signed addresses and TLS tolerate minutes.
_CLOCKS_DIFFER, _CLOCKS_DISAGREE = 30.0, 300.0
_DAYS_LEFT = 14
#: Most runs whose servers are looked at.
_MOST_RUNS = 8


def service(base_url: str) -> list[tuple[str, Check]]:
    """The checks of a control plane, for a user who has a key or ought to have one."""
    checks: list[tuple[str, Check]] = [("key", _key), ("proxy", partial(_proxy, base_url))]
    if proxy_for(base_url) is None:  # else it is the proxy that looks up the name and makes the connection
        checks.append(("name", partial(_name, base_url)))
        if urlsplit(base_url).scheme == "https":
            checks.append(("certificate", partial(_certificate, base_url)))
    return [*checks, ("control plane", partial(_answer, base_url))]


async def _key() -> AsyncIterator[Finding]:
    key = os.environ.get(_API_KEY)
    if not key:
        way = f"export {_API_KEY}=...; without an account: `loops run SCRIPT`, or what `loops serve` prints"
        yield Finding("key", "broken", f"{_API_KEY} is not set", way)
        return
    try:
        await Network(key).aclose()
    except InvalidInputError as error:
        yield Finding("key", "broken", error.message, f"export {_API_KEY} again")
    else:
        yield Finding("key", "fine", f"{_API_KEY} is set, {len(key)} characters")


async def _proxy(base_url: str) -> AsyncIterator[Finding]:
    proxy = proxy_for(base_url)
    if proxy is None:
        named = [f"{scheme.upper()}_PROXY" for scheme in ("https", "http") if scheme in getproxies_environment()]
        spared = f"; {' and '.join(named)} play no part for this address" if named else ""
        yield Finding("proxy", "fine", f"none{spared}")
        return
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    shown = f"{parts.hostname}:{parts.port or 80}"  # without the password that it may have
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(parts.hostname, parts.port or 80), _STEP)
        writer.close()
    except (OSError, TimeoutError) as error:
        way = "mend HTTPS_PROXY or HTTP_PROXY, or name the host in NO_PROXY"
        yield Finding("proxy", "broken", f"{shown} does not answer ({_text(error)})", way)
    else:
        yield Finding("proxy", "fine", f"requests go through {shown}")


async def _name(base_url: str) -> AsyncIterator[Finding]:
    host, port = _place(base_url)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port)
    except (OSError, UnicodeError) as error:
        way = "is LOOPS_BASE_URL right, and are you online? behind a proxy set HTTPS_PROXY"
        yield Finding("name", "broken", f"{host} does not resolve ({_text(error)})", way)
        return
    addresses = sorted({str(one[4][0]) for one in found})
    yield Finding("name", "fine", f"{host} is {', '.join(addresses[:3])}")


async def _certificate(base_url: str) -> AsyncIterator[Finding]:
    host, port = _place(base_url)
    try:
        context = ssl.create_default_context()
    except OSError as error:  # ssl.SSLError is one
        yield Finding("certificate", "broken", f"SSL_CERT_FILE cannot be read ({_text(error)})", "mend SSL_CERT_FILE")
        return
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port, ssl=context), _STEP)
    except ssl.SSLCertVerificationError as error:
        yield Finding("certificate", "broken", f"not trusted: {error.verify_message}", _to_trust(error))
    except ssl.SSLError as error:
        yield Finding("certificate", "broken", f"no TLS ({_text(error)})", "is it an http:// address?")
    except (OSError, TimeoutError):
        return  # nobody answers, which is said elsewhere
    else:
        yield _dates(writer.get_extra_info("peercert"))
        writer.close()


def _to_trust(error: ssl.SSLCertVerificationError) -> str:
    if "expired" in error.verify_message or "not yet" in error.verify_message:
        return "is the clock of this machine right? else the server needs a new certificate"
    if "mismatch" in error.verify_message or "doesn't match" in error.verify_message:
        return "is LOOPS_BASE_URL right? the certificate is that of another name"
    return "an authority of your own is trusted with SSL_CERT_FILE=FILE.pem"


def _dates(certificate: dict[str, str]) -> Finding:
    days = int((ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) // 86400)
    if days < _DAYS_LEFT:
        return Finding("certificate", "remark", f"good for {days} days only", "tell those who run the server")
    own = f", trusted by {os.environ['SSL_CERT_FILE']}" if os.environ.get("SSL_CERT_FILE") else ""
    return Finding("certificate", "fine", f"good for {days} days{own}")


async def _answer(base_url: str) -> AsyncIterator[Finding]:
    try:
        network = Network(os.environ.get(_API_KEY) or "")
    except InvalidInputError:
        network = Network("")  # what is wrong with it is said elsewhere
    try:
        network.transport.trust(base_url, "base_url")
        start = time.monotonic()
        answer = await network.transport.request("GET", CAPABILITIES.url(base_url), timeout=_STEP)
        yield _verdict(base_url, answer, time.monotonic() - start)
        if (clock := _clock(answer)) is not None:
            yield clock
        if answer.status == 200:
            async for finding in _of_runs(base_url, network):
                yield finding
    except LoopsError as error:
        yield Finding(
            "control plane",
            "broken",
            error.message.replace("; `loops doctor` looks for the reason", ""),
            (
                "is it up, and is LOOPS_BASE_URL right? `loops serve` starts one here"
                if is_loopback(base_url)
                else "is LOOPS_BASE_URL right, and does a firewall or proxy stand between?"
            ),
        )
    finally:
        await network.aclose()


def _verdict(base_url: str, answer: Response, took: float) -> Finding:
    place = origin(base_url)
    if answer.status == 200 and answer.body.lstrip().startswith(b"{"):
        return Finding("control plane", "fine", f"{place} accepts the key, {took * 1000:.0f} ms")
    if answer.status == 401:
        way = f"export {_API_KEY}=... with a key of this server; that of a deployment is what its `loops serve` printed"
        given = "does not know the key" if os.environ.get(_API_KEY) else "answers, and wants a key"
        return Finding("control plane", "broken", f"{place} {given}", way)
    if answer.status == 403:
        return Finding(
            "control plane", "broken", f"{place} knows the key, which may not do this", "ask for one that may"
        )
    if answer.status >= 500:
        return Finding(
            "control plane", "broken", f"{place} answers {answer.status}", "it has troubles of its own: later"
        )
    told = f"{place} answers {answer.status}, but not as a control plane"
    return Finding("control plane", "broken", told, "is LOOPS_BASE_URL the address of a Loops server?")


def _clock(answer: Response) -> Finding | None:
    try:
        theirs = parsedate_to_datetime(answer.headers["Date"])
    except (KeyError, ValueError):
        return None
    late = (datetime.now(UTC) - theirs.astimezone(UTC)).total_seconds()
    if abs(late) <= _CLOCKS_DIFFER:
        return Finding("clock", "fine", "as the server's")
    told = f"{abs(late):.0f} s {'ahead of' if late > 0 else 'behind'} the server's"
    return Finding(
        "clock", "broken" if abs(late) > _CLOCKS_DISAGREE else "remark", told, "set the time of this machine"
    )


async def _of_runs(base_url: str, network: Network) -> AsyncIterator[Finding]:
    """The servers of the runs that are up. Any answer will do: it is asked without the key."""
    runs = await ControlPlane(base_url, network).list_runs()
    live = [run for run in runs if run.status.name == "ACTIVE"]
    keyless = Network("")
    try:
        for finding in await asyncio.gather(*(_reached(run, keyless) for run in live[:_MOST_RUNS])):
            yield finding
    finally:
        await keyless.aclose()


async def _reached(run: Run, keyless: Network) -> Finding:
    servers = [("trainer", run.base_url)] + ([("sampler", run.sampler.base_url)] if run.sampler is not None else [])
    silent = [name for name, url in servers if not await _answers(url, keyless)]
    name = f"run {run.id}"
    if silent:
        told = f"no answer from its {' and its '.join(silent)}"
        return Finding(name, "broken", told, f"`loops runs show {run.id}` tells their states")
    return Finding(name, "fine", f"{' and '.join(name for name, _ in servers)} can be reached")


async def _answers(url: str, keyless: Network) -> bool:
    try:
        await keyless.transport.request("GET", f"{url.rstrip('/')}/health", timeout=_STEP / 2)
    except (ConnectionFailedError, RequestTimeoutError):
        return False
    return True


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]


def _text(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
