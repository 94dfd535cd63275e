"""Who may ask the live page for what; pure decisions about one request's headers.

Against pages of other sites that run in the same browser (cross-site requests, DNS
rebinding) and against other machines. On loopback everybody on this machine may look
and the token is needed to act; anywhere else it is needed for everything.
"""

import hmac
import ipaddress
import secrets
import socket
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Protocol

# What a browser says of a request that this very page made, or that a person typed.
_OWN_SITES = ("same-origin", "none")

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    # The hash is that of nothing: see the empty style in live.html.
    "style-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='; "
    "img-src 'self' blob: data:; connect-src 'self'; "
    "worker-src blob:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Headers(Protocol):
    """Headers of a request, by names in any case."""

    def get(self, name: str, default: str, /) -> str:
        """Return a header, or the default."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request is not answered, with its HTTP status."""

    status: int
    reason: str


def new_token() -> str:
    """Return 128 random bits as text."""
    return secrets.token_urlsafe(16)


def is_loopback(host: str) -> bool:
    """Tell whether an address or name means this machine only.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The rules for a server bound to `host`.

    Parameters
    ----------
    host
        The address that the server listens on.
    token
        What opens the page elsewhere, and its buttons everywhere.
    cookie
        Name of the cookie that carries the token; cookies ignore ports, so servers
        on one machine need different names.
    """

    host: str
    cookie: str
    token: str = field(repr=False)

    def check(self, method: str, headers: Headers) -> Refusal | None:
        """Return why a request is refused, or None.

        Parameters
        ----------
        method
            GET, HEAD or POST.
        headers
            Of the request.
        """
        return (
            self._check_host(headers.get("Host", ""))
            or self._check_site(method, headers)
            or self._check_token(method, headers)
        )

    def check_session(self, headers: Headers) -> Refusal | None:
        """As `check` for the one POST that brings the token in its body."""
        return self._check_host(headers.get("Host", "")) or self._check_site(
            "POST", headers
        )

    def knows(self, headers: Headers) -> bool:
        """Tell whether the request carries the token, as cookie or as bearer."""
        kind, _, given = headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.is_token(given.strip()):
            return True
        try:
            cookies = SimpleCookie(headers.get("Cookie", ""))
        except CookieError:
            return False
        found = cookies.get(self.cookie)
        return found is not None and self.is_token(found.value)

    def is_token(self, text: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(text.encode(), self.token.encode())

    def compose_cookie(self) -> str:
        """Return the Set-Cookie header that lets this browser in."""
        return f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/"

    def _check_host(self, header: str) -> Refusal | None:
        """Refuse a foreign name that leads here: a page that rebound its own name."""
        name = _host_name(header)
        known = is_loopback(name)
        if not known and not is_loopback(self.host):
            known = _is_address(name) or name in _own_names()
        if known:
            return None
        return Refusal(
            status=421,
            reason=f"this server does not answer for the name '{name[:80]}'; "
            "open the address that bifocus printed",
        )

    def _check_site(self, method: str, headers: Headers) -> Refusal | None:
        site = headers.get("Sec-Fetch-Site", "none")
        origin = headers.get("Origin", "")
        own = f"http://{headers.get('Host', '')}"
        is_foreign = site not in _OWN_SITES or origin not in ("", own)
        # A link from elsewhere may open the page; it cannot read or press anything.
        is_link = method == "GET" and headers.get("Sec-Fetch-Mode", "") == "navigate"
        if is_foreign and not is_link:
            return Refusal(status=403, reason="requests of other sites are refused")
        return None

    def _check_token(self, method: str, headers: Headers) -> Refusal | None:
        if (is_loopback(self.host) and method != "POST") or self.knows(headers):
            return None
        return Refusal(
            status=401,
            reason="the token is missing or wrong; open the address that bifocus "
            "printed, with its token",
        )


def _host_name(header: str) -> str:
    """Return the name in a Host header, without port and brackets.

    >>> _host_name("localhost:8765"), _host_name("[::1]:80"), _host_name("[::1]")
    ('localhost', '::1', '::1')
    """
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _own_names() -> set[str]:
    name = socket.gethostname().lower()
    return {name, f"{name.partition('.')[0]}.local"}
