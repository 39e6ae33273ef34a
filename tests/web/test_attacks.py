"""What other pages, other machines and bad clients may try on the page's process."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from lab.web import DEADLINE_S, NOW, MadeUpGateway, WebPage, a_password_file, a_view, a_web

from gatewayd.web import app, connections

attack = pytest.mark.attack

POST = b"POST /session HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nX-Gatewayd: page\r\n"


async def raw(page: WebPage, said: bytes) -> bytes:
    """Send bytes as they are, and return what comes until the other end closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", page.port)
    writer.write(said)
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@attack("a foreign name that resolves to the page's address (DNS rebinding)")
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8463",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.7",
        "",
        "[::1",
        "a@127.0.0.1",
        "127.0.0.1/x",
        "127.0.0.1:x",
    ],
)
async def test_a_foreign_host_is_refused(tmp_path: Path, host: str) -> None:
    async with a_web(tmp_path, MadeUpGateway()) as page:
        for path in ("/", "/events", "/device?name=pump-1", "/page.js"):
            answer = await raw(
                page, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
            )
            assert answer.startswith(b"HTTP/1.1 4"), answer
            assert b"barn-pi" not in answer


async def test_the_status_for_a_foreign_host_is_421(tmp_path: Path) -> None:
    async with a_web(tmp_path, MadeUpGateway()) as page:
        assert (await page.get("session", Host="evil.example"))[0] == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1", "127.0.0.1:9000", "LOCALHOST."])
async def test_names_of_this_machine_are_taken_with_any_port(tmp_path: Path, host: str) -> None:
    """`ssh -L 9000:127.0.0.1:8463` makes the port another one."""
    async with a_web(tmp_path, MadeUpGateway()) as page:
        assert (await page.get("session", Host=host))[0] == 200


async def test_a_name_that_was_allowed(tmp_path: Path) -> None:
    async with a_web(tmp_path, MadeUpGateway(), allowed_hosts=("Barn.lan",)) as page:
        assert (await page.get("session", Host="barn.LAN:8123"))[0] == 200
        assert (await page.get("session", Host="xbarn.lan"))[0] == 421


@attack("another site's page that sends a command with the person's cookie (CSRF)")
@pytest.mark.parametrize(
    "headers",
    [
        {"X_Gatewayd": ""},
        {"X_Gatewayd": "other"},
        {"Origin": ""},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "file://127.0.0.1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
    ids=str,
)
async def test_a_command_from_elsewhere_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    gateway = MadeUpGateway(a_view("pump-1", "offered"))
    async with a_web(tmp_path, gateway, password_file=a_password_file(tmp_path)) as page:
        assert await page.sign_in() == 200
        status, _ = await page.post("commands/approve", {"targets": ["pump-1"]}, **headers)
        assert status == 403
        assert gateway.commands == []
        status, _ = await page.post("session", {"user": "alice", "password": "correct horse"}, **headers)
        assert status == 403
        assert (await page.post("commands/approve", {"targets": ["pump-1"]}))[0] == 200


async def test_no_foreign_page_is_ever_told_that_it_may(tmp_path: Path) -> None:
    """A browser asks before it sends our header: the answer names nobody."""
    async with a_web(tmp_path, MadeUpGateway()) as page:
        asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        async with page.browser.options(f"{page.address}commands/approve", headers=asked) as answer:
            assert answer.status == 405
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]


async def test_the_page_may_run_its_own_script_and_no_other(tmp_path: Path) -> None:
    async with a_web(tmp_path, MadeUpGateway()) as page:
        for path in ("", "page.js", "events", "nothing"):
            async with page.browser.get(page.address + path) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
                assert "unsafe" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Server"] == "gatewayd"
                assert answer.headers["Cache-Control"] in ("no-store", "no-cache")


@attack("script in a device's name, version or console text")
async def test_what_devices_say_arrives_as_text(tmp_path: Path) -> None:
    """As JSON in one line of an event; the page makes text of it (in a real browser: tests/suites/web)."""
    said = "<script>alert(1)</script>\n\ndata: {}\n\n<img src=x onerror=alert(1)>"
    view = a_view("pump-1", "failed", code="device_error", reason=said, installed_version=said[:20])
    async with a_web(tmp_path, MadeUpGateway(view)) as page, page.events() as heard:
        await heard.until(lambda one: one.devices)
        assert heard.devices["pump-1"]["reason"] == said
        assert heard.answer.content_type == "text/event-stream"


def test_no_script_makes_html_of_text() -> None:
    folder = Path(app.__file__).parent / "static"
    for path in folder.glob("*.js"):
        for way in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ):
            assert way not in path.read_text(), path
    html = (folder / "index.html").read_text()
    assert "style=" not in html
    assert "<style" not in html
    assert html.count("<script") == html.count("<script src=")
    assert " on" not in html.replace("href", "").partition("<body>")[2].replace(" on ", "")


@attack("requests that never end")
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"G",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
        POST + b"Content-Length: 100\r\n\r\n{",
        b"GET /session HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET / HTT",
    ],
    ids=["nothing", "a letter", "half a header", "half a body", "half a second request"],
)
async def test_a_connection_that_does_not_say_what_it_wants_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    for limit in ("REQUEST_LIMIT_S", "IDLE_LIMIT_S"):
        monkeypatch.setattr(connections, limit, 0.1)
    monkeypatch.setattr(app, "REQUEST_LIMIT_S", 0.1)
    async with a_web(tmp_path, MadeUpGateway(), password_file=a_password_file(tmp_path)) as page:
        await raw(page, said)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n", b"400"),
    ],
    ids=["a header", "an address", "TLS"],
)
async def test_what_is_too_long_or_no_request_is_refused(tmp_path: Path, said: bytes, status: bytes) -> None:
    async with a_web(tmp_path, MadeUpGateway()) as page:
        assert (await raw(page, said)).split()[1:2] == [status]


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"7",
        b"{",
        b"[" * 50_000,
        b'{"targets": 7}',
        b'{"targets": ["' + b"x" * 65 + b'"]}',
        b"\xff\xfe",
    ],
    ids=lambda body: body[:12],
)
async def test_a_body_that_is_no_command(tmp_path: Path, body: bytes) -> None:
    gateway = MadeUpGateway()
    async with a_web(tmp_path, gateway, password_file=a_password_file(tmp_path)) as page:
        await page.sign_in()
        headers = {"Origin": page.origin, "X-Gatewayd": "page"}
        async with page.browser.post(f"{page.address}commands/retry", data=body, headers=headers) as answer:
            assert answer.status == 400
        async with page.browser.post(
            f"{page.address}commands/retry", data=b"x" * 200_000, headers=headers
        ) as answer:
            assert answer.status == 413
        assert gateway.commands == []


@attack("more listeners and connections than there is room for")
@pytest.mark.slow
async def test_a_thousand_listeners_hear_and_one_more_is_refused(tmp_path: Path) -> None:
    gateway = MadeUpGateway(a_view("pump-1"))
    async with a_web(tmp_path, gateway) as page, contextlib.AsyncExitStack() as listeners:
        unbounded = aiohttp.TCPConnector(limit=0)
        crowd = await listeners.enter_async_context(aiohttp.ClientSession(connector=unbounded))
        answers = []
        for _ in range(connections.MOST_LISTENERS):
            answer = await crowd.get(f"{page.address}events")
            listeners.callback(answer.close)
            answers.append(answer)
        async with crowd.get(f"{page.address}events") as one_more:
            assert (one_more.status, one_more.headers["Retry-After"]) == (503, "30")
        assert gateway.watchers == 1, "for all of them together"
        gateway.change(a_view("pump-1", "failed", code="reverted", reason=NOW))
        async with asyncio.timeout(DEADLINE_S):
            for answer in answers:
                while b'"failed"' not in await answer.content.readline():
                    pass
        assert (await page.get("session"))[0] == 200, "others are served"


async def test_connections_beyond_the_limit_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections.Connections.__init__, "__defaults__", (3,))
    async with a_web(tmp_path, MadeUpGateway()) as page:
        opened = [await asyncio.open_connection("127.0.0.1", page.port) for _ in range(3)]
        assert await raw(page, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") == b""
        for _, writer in opened:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(DEADLINE_S):
            while not await raw(
                page, b"GET /session HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            ):
                pass


@attack("files beside the page's own")
@pytest.mark.parametrize(
    "path",
    [
        "..%2fapp.py",
        "%2e%2e/app.py",
        "../app.py",
        "static/page.js",
        "texts/en.json",
        "page.js%00",
        "passwords",
    ],
)
async def test_no_other_file_is_served(tmp_path: Path, path: str) -> None:
    async with a_web(tmp_path, MadeUpGateway(), password_file=a_password_file(tmp_path)) as page:
        answer = await raw(
            page, f"GET /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
        )
        assert answer.split()[1] in (b"404", b"400"), answer


async def test_no_secret_and_no_path_is_told(tmp_path: Path) -> None:
    gateway = MadeUpGateway(a_view("pump-1"))
    async with a_web(tmp_path, gateway) as page, page.events() as heard:
        await heard.until(lambda one: one.gateway and one.devices)
        _, device = await page.get("device?name=pump-1")
        told: Any = json.dumps([heard.gateway, heard.devices, device])
        for secret in ("/etc/gatewayd", "/var/lib/gatewayd", "config_file", "pid", "image_sha256"):
            assert secret not in told
