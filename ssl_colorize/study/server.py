"""The study's web page and what it talks to.

What the page gets before an answer says nothing about which photo is real: both photos of a pair come in one response
of a fixed number of bytes (bare pixels, since compressed ones would differ in size), under a random name, in the order
in which they are shown; practice, counted and vigilance pairs are asked for and answered in the same way.
"""

from __future__ import annotations

import importlib.resources
import json
from dataclasses import dataclass
from math import isfinite
from random import Random, SystemRandom
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ssl_colorize.study.pictures import Pictures
from ssl_colorize.study.protocol import Protocol, plan_session
from ssl_colorize.study.storage import Standing, Store, Times, UnknownPair

_PAGE = {
    "": ("index.html", "text/html; charset=utf-8"),
    "style.css": ("style.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
}
# The page loads nothing from elsewhere and runs nothing but its own script.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_FRESH = {"Cache-Control": "no-store"}

_MONTH = 30 * 24 * 3600
# No body that the page sends is longer.
_LONGEST_BODY = 1000
# A time that a page reports is no longer than a day, in milliseconds.
_LONGEST_TIME = 24 * 3600 * 1000.0


@dataclass
class Study:
    """What the server serves.

    Attributes:
        contact: whom a participant may ask, for the first page; empty for nobody.
        chance: draws the sessions.
    """

    store: Store
    pictures: Pictures
    protocol: Protocol
    contact: str = ""
    chance: Random = SystemRandom()  # noqa: RUF009 - the operating system's, without a state to share

    def __post_init__(self) -> None:
        self.cookie = f"study-{self.store.study}"


def create_app(study: Study) -> Starlette:
    """The study as a web application. Addresses in it are relative, so that it may stand below any path."""

    async def begin(request: Request) -> Response:
        asked = await _body(request)
        secret = request.cookies.get(study.cookie)
        standing = study.store.standing(secret)
        if standing is None or (standing.token is None and asked.get("again") is True):
            pairs = plan_session(study.pictures.names, study.protocol, study.chance)
            secret = study.store.begin(study.pictures.methods, pairs, study.chance)
        response = JSONResponse(_state(study, secret), headers=_FRESH)
        assert secret is not None
        response.set_cookie(study.cookie, secret, max_age=_MONTH, httponly=True, samesite="strict")
        return response

    async def state(request: Request) -> Response:
        return JSONResponse(_state(study, request.cookies.get(study.cookie)), headers=_FRESH)

    async def photos(request: Request) -> Response:
        try:
            method, pair = study.store.fetch(request.cookies.get(study.cookie), request.path_params["token"])
        except UnknownPair:
            raise HTTPException(404) from None
        return Response(study.pictures.pair(method, pair), media_type="application/octet-stream", headers=_FRESH)

    async def answer(request: Request) -> Response:
        content = await _body(request)
        if content.get("picked") not in ("first", "second"):
            raise HTTPException(400)
        secret = request.cookies.get(study.cookie)
        times = Times(*(_time(content.get(name)) for name in ("first_ms", "second_ms", "took_ms")))
        try:
            given = study.store.answer(
                secret, request.path_params["token"], picked_first=content["picked"] == "first", times=times
            )
        except UnknownPair:
            raise HTTPException(404) from None
        said = {"right": given.right, "real": "first" if given.real_first else "second"}
        feedback = said if given.kind == "practice" else None
        return JSONResponse({"feedback": feedback, "state": _state(study, secret)}, headers=_FRESH)

    routes = [Route(f"/{address}", _file(*content)) for address, content in _PAGE.items()]
    routes += [
        Route("/state", state),
        Route("/begin", begin, methods=["POST"]),
        Route("/pairs/{token}", photos),
        Route("/pairs/{token}", answer, methods=["POST"]),
    ]
    return Starlette(routes=routes)


def _file(name: str, media_type: str) -> Any:
    content = importlib.resources.files("ssl_colorize.study").joinpath("page", name).read_bytes()

    async def respond(request: Request) -> Response:
        return Response(content, media_type=media_type, headers=_PAGE_HEADERS)

    return respond


def _state(study: Study, secret: str | None) -> dict[str, Any]:
    """What the page shows now. Vigilance pairs are pairs like any other here."""
    protocol = study.protocol
    state: dict[str, Any] = {
        "practice": protocol.practice,
        "trials": protocol.trials,
        "photo_ms": 1000 * protocol.seconds,
        "pause_ms": 1000 * protocol.pause,
        "contact": study.contact,
    }
    standing = study.store.standing(secret)
    if standing is None:
        return state | {"stage": "welcome"}
    if standing.token is None:
        return state | {"stage": "end"} | _told_right(study, standing)
    practising = standing.place < protocol.practice
    return state | {
        "stage": "practice" if practising else "trials",
        "place": standing.place + 1 if practising else standing.place - protocol.practice + 1,
        "pair": standing.token,
        "following": standing.following,
    }


def _told_right(study: Study, standing: Standing) -> dict[str, int]:
    """For the last page: in how many of the pairs without feedback the real photo was found."""
    answers = study.store.session(standing.session).answers
    return {"right": sum(one.right for one in answers if one.kind != "practice")}


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object that the page sent. Its type is asked for, since other sites' forms cannot send it."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415)
    received = b""
    async for part in request.stream():
        received += part
        if len(received) > _LONGEST_BODY:
            raise HTTPException(413)
    try:
        content = json.loads(received)
    except ValueError:
        raise HTTPException(400) from None
    if not isinstance(content, dict):
        raise HTTPException(400)
    return content


def _time(value: Any) -> float | None:
    """Milliseconds as a page reports them; None for what cannot be a time."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if isfinite(value) and 0 <= value <= _LONGEST_TIME else None
