"""The page's routes. All of them are here; what they say is decided elsewhere."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from aiohttp import web
from pydantic import ValidationError

from gatewayd.control.async_client import ask
from gatewayd.control.client import DaemonUnreachable
from gatewayd.control.messages import DevicesResult, ExplainDeviceResult, JobsResult, Message, OutcomesResult
from gatewayd.control.metrics_messages import MetricsResult
from gatewayd.control.requests import Devices, ExplainDevice, Hold, Jobs, Metrics, Request, Steer
from gatewayd.errors import GatewaydError
from gatewayd.metrics import CONTENT_TYPE, exposition
from gatewayd.web.access import COOKIE, SESSION_S, Access, SignInRefused
from gatewayd.web.cards import device_card, job_row
from gatewayd.web.connections import MOST_LISTENERS, REQUEST_LIMIT_S, Connections
from gatewayd.web.files import Files
from gatewayd.web.guard import Handler, guard, refusal_response, set_headers
from gatewayd.web.mirror import Mirror, stream

log = structlog.get_logger()
M = TypeVar("M", bound=Message)

# A command names at most a thousand devices of 64 characters.
MOST_BODY_BYTES = 128 * 1024
# So that what lies between does not take the connection for dead, and the page notices when it is.
BEAT_S = 15.0
# A listener that reads nothing is let go.
WRITE_LIMIT_S = 30.0
# The daemon serves 64 connections in all, and gatewayctl wants some, too.
QUESTIONS_AT_ONCE = 8
ANSWER_LIMIT_S = 60.0
HISTORY = 20


@dataclass(frozen=True)
class Parts:
    """What the routes use; built once by `server`. `user_header`: where a proxy names the person, or None."""

    mirror: Mirror
    access: Access
    files: Files
    connections: Connections
    allowed_hosts: tuple[str, ...] = ()
    user_header: str | None = None


class Page:
    """Answers requests."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._questions = asyncio.Semaphore(QUESTIONS_AT_ONCE)
        self._streams: set[asyncio.Task[object]] = set()

    def application(self) -> web.Application:
        """Return the application with every route."""
        app = web.Application(
            middlewares=(self._bounded, guard(self._parts.allowed_hosts)), client_max_size=MOST_BODY_BYTES
        )
        app.on_response_prepare.append(set_headers)
        app.on_shutdown.append(self._end_streams)
        app.add_routes(
            [
                web.get("/", self._file),
                web.get("/texts.json", self._texts),
                web.get("/session", self._session),
                web.post("/session", self._sign_in),
                web.post("/session/end", self._sign_out),
                web.get("/events", self._signed_in(self._events)),
                web.get("/device", self._signed_in(self._device)),
                web.get("/metrics", self._signed_in(self._metrics)),
                web.post("/commands/{op:approve|cancel|retry|retry_reverted|pause|resume}", self._command),
                web.get("/{name}", self._file),
            ]
        )
        return app

    # -- what everybody may have

    async def _file(self, request: web.Request) -> web.StreamResponse:
        return self._parts.files.answer(request, request.match_info.get("name", "index.html"))

    async def _texts(self, request: web.Request) -> web.StreamResponse:
        return self._parts.files.texts(request)

    async def _session(self, request: web.Request) -> web.StreamResponse:
        """Say who asks, and whether there is anybody to be."""
        person = None
        with contextlib.suppress(SignInRefused):
            person = await self._parts.access.person(request)
        has = self._parts.access.has_passwords
        return web.json_response({"user": person, "sign_in": has, "may_look": not has or person is not None})

    # -- who is there

    async def _sign_in(self, request: web.Request) -> web.StreamResponse:
        if not self._parts.access.has_passwords:
            return refusal_response(403, "only_shows")
        said = await _body(request)
        name, password = said.get("user"), said.get("password")
        if not isinstance(name, str) or not isinstance(password, str):
            return refusal_response(400, "bad_request")
        try:
            token = await self._parts.access.sign_in(name, password, request.remote or "")
        except SignInRefused as refused:
            return _refused(refused)
        response = web.json_response({"user": name})
        # No path: it goes to the folder of the page, also behind a proxy that serves it below another.
        is_secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
        cookie = f"{COOKIE}={token}; HttpOnly; SameSite=Strict; Max-Age={SESSION_S:.0f}"
        response.headers["Set-Cookie"] = cookie + ("; Secure" if is_secure else "")
        return response

    async def _sign_out(self, request: web.Request) -> web.StreamResponse:
        self._parts.access.sign_out(request.cookies.get(COOKIE, ""))
        return web.json_response({})

    def _signed_in(self, handler: Handler) -> Handler:
        """Let nobody look who is not signed in, where there is a password file."""

        async def check(request: web.Request) -> web.StreamResponse:
            try:
                person = await self._parts.access.person(request)
            except SignInRefused as refused:
                return _refused(refused)
            if self._parts.access.has_passwords and person is None:
                return refusal_response(401, "sign_in")
            return await handler(request)

        return check

    # -- what is shown

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._parts.mirror.listeners >= MOST_LISTENERS:
            return refusal_response(503, "too_many_listeners", Retry_After="30")
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            }
        )
        with self._parts.mirror.listening(), self._ended_at_shutdown():
            await response.prepare(request)
            async with contextlib.aclosing(stream(self._parts.mirror, BEAT_S)) as events:  # type: ignore[type-var]
                async for event in events:
                    try:
                        async with asyncio.timeout(WRITE_LIMIT_S):
                            await response.write(event)
                    except (TimeoutError, ConnectionError):
                        break
                    if not await self._may_stay(request):
                        break
        return response

    @contextlib.contextmanager
    def _ended_at_shutdown(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - handlers are in one
        self._streams.add(task)
        try:
            yield
        finally:
            self._streams.discard(task)

    async def _end_streams(self, _: web.Application) -> None:
        """Listeners would stay for ever: they have nothing to finish."""
        for task in self._streams:
            task.cancel()

    async def _may_stay(self, request: web.Request) -> bool:
        """Whether a listener may hear more: its session may have ended."""
        try:
            return (
                not self._parts.access.has_passwords or await self._parts.access.person(request) is not None
            )
        except SignInRefused:
            return False

    async def _device(self, request: web.Request) -> web.StreamResponse:
        """Return one device with its history, and what was published for it."""
        name = request.query.get("name", "")

        async def answer() -> web.StreamResponse:
            explained = await self._ask(ExplainDevice(device=name), ExplainDeviceResult)
            jobs = await self._ask(Jobs(device=name, limit=HISTORY), JobsResult)
            (view,) = (await self._ask(Devices(names=(name,)), DevicesResult)).devices
            return web.json_response(
                {
                    "device": device_card(view),
                    "decision": explained.forecast.model_dump(
                        include={"code", "reason", "version", "refused", "topics"}
                    ),
                    "releases": [release.model_dump() for release in reversed(explained.releases)],
                    "jobs": [job_row(job) for job in jobs.jobs],
                }
            )

        return await _told(answer)

    async def _metrics(self, _: web.Request) -> web.StreamResponse:
        """Return the metrics for Prometheus; asked anew each time, since a scrape wants the present."""

        async def answer() -> web.StreamResponse:
            text = exposition(await self._ask(Metrics(), MetricsResult))
            return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

        return await _told(answer)

    # -- what is done

    async def _command(self, request: web.Request) -> web.StreamResponse:
        try:
            person = await self._parts.access.person(request)
        except SignInRefused as refused:
            return _refused(refused)
        if person is None:
            return (
                refusal_response(401, "sign_in")
                if self._parts.access.has_passwords
                else refusal_response(403, "only_shows")
            )
        op, targets = request.match_info["op"], (await _body(request)).get("targets")
        who = self._who(request, person)

        async def answer() -> web.StreamResponse:
            command: Request
            if op in ("pause", "resume"):
                command = Hold.model_validate({"op": op, "devices": targets, "on_behalf_of": who})
            else:
                what = {"op": op.removesuffix("_reverted"), "reverted": op.endswith("_reverted")}
                command = Steer.model_validate(what | {"targets": targets, "on_behalf_of": who})
            result = await self._ask(command, OutcomesResult)
            log.info("command", op=op, targets=targets, user=who, address=request.remote)
            self._parts.mirror.look_again()
            return web.json_response(result.model_dump())

        return await _told(answer)

    def _who(self, request: web.Request, person: str) -> str:
        """Name the person: who signed in, and who the proxy says it is."""
        header = self._parts.user_header
        said = request.headers.get(header, "") if header else ""
        shown = "".join(letter for letter in said if letter.isprintable())[:29]
        return f"{person} ({shown})" if shown else person

    async def _ask(self, request: Request, result: type[M]) -> M:
        async with self._questions:
            return await ask(self._parts.mirror.socket, request, result, timeout_s=ANSWER_LIMIT_S)

    @web.middleware
    async def _bounded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        with self._parts.connections.busy(request):
            return await handler(request)


async def _told(answer: Callable[[], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Return the answer, or why the daemon gives none: in its own words, with its code."""
    try:
        return await answer()
    except ValidationError:
        return refusal_response(400, "bad_request")
    except GatewaydError as error:
        status = 503 if isinstance(error, DaemonUnreachable) else 409
        said = {"code": error.code, "message": error.message, "hint": error.hint}
        return web.json_response({"error": said}, status=status)


async def _body(request: web.Request) -> dict[str, Any]:
    """Read a JSON object. Raises HTTPBadRequest, HTTPRequestTimeout, HTTPRequestEntityTooLarge."""
    try:
        async with asyncio.timeout(REQUEST_LIMIT_S):
            said = json.loads(await request.read() or b"{}")
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except (ValueError, RecursionError):
        raise web.HTTPBadRequest from None
    if not isinstance(said, dict):
        raise web.HTTPBadRequest
    return said


def _refused(refused: SignInRefused) -> web.Response:
    if refused.wait_s:
        return refusal_response(429, "too_many_tries", Retry_After=str(int(refused.wait_s) + 1))
    return refusal_response(401, "wrong_password")
