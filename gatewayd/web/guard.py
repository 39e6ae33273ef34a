"""What every request has to pass: whom it is for, where it comes from, and what its answer tells the browser.

A browser does what any page says, with this machine's network behind it. So a name that is not ours is
refused (421): a foreign name may resolve to this address. And nothing is changed without a header that no
foreign page can send, from a page of ours (403).
"""

import ipaddress
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Any value would do: a foreign page cannot send it without being asked first, and it is never answered.
OWN_HEADER, OWN_VALUE = "X-Gatewayd", "page"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Server": "gatewayd",  # not the versions of Python and aiohttp
}


def host_check(allowed: Iterable[str]) -> Callable[[web.Request], bool]:
    """Return whether a request is for us: by an address of this machine, or a name that was allowed."""
    names = {name.lower().rstrip(".") for name in allowed}

    def is_ours(request: web.Request) -> bool:
        name = _name_in(f"//{request.headers.get('Host', '')}")
        if name is None:
            return False
        return name in names or _is_here(name, request)

    return is_ours


def guard(allowed: Iterable[str]) -> Middleware:
    """Return the middleware; `allowed`: names of --allow-host."""
    names = tuple(allowed)
    is_ours = host_check(names)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if len(request.headers.getall("Host", [])) != 1 or not is_ours(request):
            return refusal_response(421, "wrong_host")
        if request.method == "POST" and not _is_from_page(request, names):
            return refusal_response(403, "wrong_origin")
        return await handler(request)

    return check


async def set_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Tell the browser what the page may do. A signal of aiohttp's: errors have them, too."""
    response.headers.update(_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


def refusal_response(status: int, code: str, message: str = "", **headers: str) -> web.Response:
    """Return an answer that says no; `code` is of this page's, not of the daemon's."""
    error = {"error": {"code": code, "message": message}}
    return web.json_response(
        error, status=status, headers={key.replace("_", "-"): value for key, value in headers.items()}
    )


def _is_from_page(request: web.Request, allowed: Iterable[str]) -> bool:
    """Whether a page that came from here sent it: its header, and its origin is where the request goes."""
    if request.headers.get(OWN_HEADER) != OWN_VALUE:
        return False
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        return False
    origin = request.headers.get("Origin", "")
    if urlsplit(origin).scheme not in ("http", "https"):
        return False
    # A proxy may write its own name for the page's into Host, but not into Origin.
    return urlsplit(origin).netloc.lower() == request.headers["Host"].lower() or _name_in(origin) in {
        name.lower().rstrip(".") for name in allowed
    }


def _name_in(url: str) -> str | None:
    """Return the host of a URL, in lower case; None if there is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for what is no number
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return (parts.hostname or "").rstrip(".") or None


def _is_here(name: str, request: web.Request) -> bool:
    """Whether it is the address at which this connection arrived. No foreign name can be that."""
    here = request.transport.get_extra_info("sockname") if request.transport else None
    if not here:
        return False
    address = ipaddress.ip_address(here[0])
    if name == "localhost":
        return address.is_loopback
    try:
        return ipaddress.ip_address(name) == address
    except ValueError:
        return False
