"""Who may talk to the annotation server: the page that it gave out, and nothing else.

The server listens on loopback, where any page that the same browser shows can reach it. So the
address of the page holds a token that cannot be guessed; the Host header must name loopback, or a
foreign name that was made to resolve here (DNS rebinding) would count as the page's own origin; and
a change must come from the page itself. It knows nothing of annotations.
"""

from __future__ import annotations

import hmac
import logging
import re

from aiohttp import web
from aiohttp.typedefs import Handler

from ovamgen.annotate.annotations import StaleVersionError, UnknownKeyError
from ovamgen.errors import ConfigError

# any port: it may be another one behind 'ssh -L', and what rebinding cannot forge is the name
_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    # the token is in the address; 'no-referrer' would make some browsers send 'Origin: null' here
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_LOG = logging.getLogger(__name__)


def guard(app: web.Application, token: str) -> None:
    """Makes an application answer 403 to whoever is not the page, and errors as JSON."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if refusal := _refusal(request, token):
            return _error(403, refusal)
        try:
            return await handler(request)
        except UnknownKeyError as error:
            return _error(404, str(error))
        except StaleVersionError as error:
            return _error(412, str(error))
        except ConfigError as error:
            return _error(422, str(error))
        except web.HTTPRequestEntityTooLarge as error:
            return _error(413, f"a mask must be smaller than that: {error.text}")
        except web.HTTPException as error:
            return _error(error.status, error.reason)

    app.middlewares.append(check)
    app.on_response_prepare.append(_add_headers)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


def _refusal(request: web.Request, token: str) -> str | None:
    host = request.headers.get("Host", "")
    if not _LOOPBACK.fullmatch(host):
        return "this server answers to 127.0.0.1 and localhost only"
    first = request.path.split("/", 2)[1] if request.path.startswith("/") else ""
    if not hmac.compare_digest(first.encode("utf-8", "replace"), token.encode()):
        return "open the address that 'ovamgen annotate' printed: it holds a token"
    # browsers send these; programs that know the token need not
    if request.headers.get("Origin", f"http://{host}") != f"http://{host}":
        return "only the page itself may ask"
    sites = ("same-origin", "none")
    if request.headers.get("Sec-Fetch-Site", "none") not in sites and not _is_visit(request):
        return "only the page itself may ask"
    return None


def _is_visit(request: web.Request) -> bool:
    """Somebody followed a link to the page, as from a terminal that is itself a page."""
    return (
        request.method == "GET"
        and request.headers.get("Sec-Fetch-Mode") == "navigate"
        and request.headers.get("Sec-Fetch-Dest") == "document"
    )


def _error(status: int, message: str) -> web.Response:
    _LOG.debug("%d %s", status, message)
    return web.json_response({"error": message}, status=status)
