"""Which origins may see the key, and which addresses go through a proxy."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from loops_sdk.errors import InvalidInputError


def origin(url: str, argument: str = "url") -> str:
    """Scheme, host and port of an address.

    Raises:
        InvalidInputError: not an http(s) address.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (KeyError, ValueError, AttributeError):
        raise InvalidInputError(f"{argument}: expected an http:// or https:// address, got {url!r}") from None
    if not parts.hostname:
        raise InvalidInputError(f"{argument}: the address {url!r} names no host")
    return f"{parts.scheme}://{parts.hostname}:{port}"


def is_loopback(url: str) -> bool:
    """Whether an address stays on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def same_host(left: str, right: str) -> bool:
    """Whether two addresses name the same host, on whatever port."""
    return urlsplit(left).hostname == urlsplit(right).hostname


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address; none for loopback."""
    parts = urlsplit(url)
    if is_loopback(url) or proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)
