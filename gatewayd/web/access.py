"""Who may look and who may steer: sign-in, sessions, and HTTP Basic for programs."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from aiohttp import web

from gatewayd.web.passwords import LONGEST, Hashed, PasswordFile
from gatewayd.web.throttle import Throttle

log = structlog.get_logger()

COOKIE = "gatewayd"
# A working day; the cookie goes with the browser.
SESSION_S = 12 * 3600.0
MOST_SESSIONS = 1000
# One scrypt at a time: each takes 16 MiB and a processor.
_HASHES_AT_ONCE = 1


class SignInRefused(Exception):  # noqa: N818 - named for the condition
    """Wrong name or password; or, with `wait_s`, too many guesses."""

    def __init__(self, wait_s: float = 0.0) -> None:
        super().__init__("refused")
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class _Session:
    """`hashed`: the password it began with; another one, or none, ends it."""

    name: str
    hashed: Hashed
    ends_at: float


class Access:
    """Decides by the password file; without one everybody who gets here may look, and nobody may steer."""

    def __init__(self, passwords: PasswordFile | None, clock: Callable[[], float]) -> None:
        self._passwords = passwords
        self._clock = clock
        self._throttle = Throttle(clock)
        self._one_hash = asyncio.Semaphore(_HASHES_AT_ONCE)
        # By the hash of the cookie or of the header: neither is kept.
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()
        self._key = secrets.token_bytes(32)

    @property
    def has_passwords(self) -> bool:
        """Whether anybody can sign in at all."""
        return self._passwords is not None

    async def person(self, request: web.Request) -> str | None:
        """Return who asks: by cookie, or by HTTP Basic. Raises SignInRefused for wrong credentials."""
        if self._passwords is None:
            return None
        if (token := request.cookies.get(COOKIE)) and (name := self._name_of(self._digest(token))):
            return name
        if credentials := request.headers.get("Authorization"):
            return await self._by_header(credentials, request.remote or "")
        return None

    async def sign_in(self, name: str, password: str, address: str) -> str:
        """Return the token of a new session. Raises SignInRefused."""
        hashed = await self._check(name, password, address)
        token = secrets.token_urlsafe(32)
        self._add(self._digest(token), name, hashed)
        log.info("signed in", user=name, address=address)
        return token

    def sign_out(self, token: str) -> None:
        """End a session."""
        self._sessions.pop(self._digest(token), None)

    async def _by_header(self, header: str, address: str) -> str:
        """Sign a program in that sends its password each time; it is hashed the first time only."""
        digest = self._digest(header)
        if name := self._name_of(digest):
            return name
        name, password = _basic(header)
        self._add(digest, name, await self._check(name, password, address))
        return name

    async def _check(self, name: str, password: str, address: str) -> Hashed:
        if wait_s := self._throttle.wait_s(address):
            raise SignInRefused(wait_s)
        self._throttle.begin(address)
        async with self._one_hash:
            assert self._passwords is not None  # noqa: S101 - routes are closed without
            found = await asyncio.to_thread(self._passwords.check, name, password[: LONGEST + 1])
        if found is None:
            log.warning("sign-in refused", user=name[:64], address=address)
            raise SignInRefused
        self._throttle.succeed(address)
        return found

    def _name_of(self, digest: bytes) -> str | None:
        session = self._sessions.get(digest)
        if session is None or self._passwords is None:
            return None
        if session.ends_at <= self._clock() or self._passwords.hash_of(session.name) != session.hashed:
            del self._sessions[digest]
            return None
        return session.name

    def _add(self, digest: bytes, name: str, hashed: Hashed) -> None:
        self._sessions[digest] = _Session(name, hashed, self._clock() + SESSION_S)
        if len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)

    def _digest(self, secret: str) -> bytes:
        return hmac.digest(self._key, secret.encode(errors="surrogateescape"), hashlib.sha256)


def _basic(header: str) -> tuple[str, str]:
    kind, _, value = header.partition(" ")
    try:
        if kind.lower() != "basic":
            raise ValueError(kind)  # noqa: TRY301 - one answer for all that can be wrong
        name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (ValueError, binascii.Error):
        raise SignInRefused from None
    if not name:
        raise SignInRefused
    return name, password
