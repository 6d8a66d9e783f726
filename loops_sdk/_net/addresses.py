"""Which origins may see the key, and which addresses go through a proxy."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from loops_sdk.types._checks import check_address


def origin(url: str, argument: str = "url") -> str:
    """Scheme, host and port of an address.

    Raises:
        InvalidInputError: not an http(s) address, or one with a password in it.
    """
    if not isinstance(url, str):
        check_address(argument, url)
    return _origin("/".join(url.split("/", 3)[:3]), argument)


@lru_cache(maxsize=256)
def _origin(beginning: str, argument: str) -> str:
    """`origin` of an address as far as its host: every request asks, and of few hosts."""
    check_address(argument, beginning)
    parts = urlsplit(beginning)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port or {'http': 80, 'https': 443}[parts.scheme]}"


def is_loopback(url: str) -> bool:
    """Whether an address stays on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def may_name(place: str, url: str) -> bool:
    """Whether the server at `place` may send the key on to `url`: over TLS, on this machine, or to another port of its
    own host when it was itself spoken to without TLS.
    """
    there, here = urlsplit(url), urlsplit(place)
    return there.scheme == "https" or is_loopback(url) or (here.scheme == "http" and here.hostname == there.hostname)


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address; none for loopback."""
    parts = urlsplit(url)
    if is_loopback(url) or proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)
