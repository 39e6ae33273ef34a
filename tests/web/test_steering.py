"""Who may look, who may steer, and what the daemon is told of it."""

import asyncio
from pathlib import Path

import pytest
from lab.web import PASSWORD, PERSON, MadeUpGateway, WebPage, a_page, a_password_file, a_view, a_web

from gatewayd.control.requests import Hold, Steer
from gatewayd.errors import RequestError
from gatewayd.web import access
from gatewayd.web.passwords import Hashed, set_password


@pytest.fixture(name="gateway")
def _gateway() -> MadeUpGateway:
    return MadeUpGateway(a_view("pump-1", "offered", job=7), a_view("pump-2"))


async def test_without_a_password_file_everybody_looks_and_nobody_steers(
    tmp_path: Path, gateway: MadeUpGateway
) -> None:
    async with a_web(tmp_path, gateway) as page, page.events() as heard:
        await heard.until(lambda one: one.devices)
        assert await page.get("session") == (200, {"user": None, "sign_in": False, "may_look": True})
        status, said = await page.post("commands/approve", {"targets": ["pump-1"]})
        assert (status, said["error"]["code"]) == (403, "only_shows")
        assert await page.sign_in() == 403
    assert gateway.commands == []


async def test_with_one_only_who_signs_in_looks_and_steers(tmp_path: Path, gateway: MadeUpGateway) -> None:
    async with a_web(tmp_path, gateway, password_file=a_password_file(tmp_path)) as page:
        assert await page.get("session") == (200, {"user": None, "sign_in": True, "may_look": False})
        assert (await page.get("device?name=pump-1"))[0] == 401
        assert (await page.get("events"))[0] == 401
        assert (await page.post("commands/approve", {"targets": ["pump-1"]}))[0] == 401
        assert gateway.commands == []

        assert await page.sign_in() == 200
        assert (await page.get("session"))[1] == {"user": PERSON, "sign_in": True, "may_look": True}
        assert (await page.get("device?name=pump-1"))[0] == 200
        assert (await page.post("commands/approve", {"targets": ["pump-1"]}))[0] == 200

        await page.post("session/end")
        assert (await page.get("device?name=pump-1"))[0] == 401


@pytest.mark.parametrize("op", ["approve", "cancel", "retry"])
async def test_the_daemon_is_told_what_was_pressed_and_by_whom(
    tmp_path: Path, gateway: MadeUpGateway, op: str
) -> None:
    async with a_web(tmp_path, gateway, password_file=a_password_file(tmp_path)) as page:
        await page.sign_in()
        assert (await page.post(f"commands/{op}", {"targets": ["pump-1"]}))[0] == 200
    assert gateway.commands == [
        Steer.model_validate({"op": op, "targets": ("pump-1",), "on_behalf_of": PERSON})
    ]


async def test_one_more_try_of_an_image_that_was_given_up(tmp_path: Path, gateway: MadeUpGateway) -> None:
    async with a_web(tmp_path, gateway, password_file=a_password_file(tmp_path)) as page:
        await page.sign_in()
        for op in ("retry_reverted", "retry"):
            assert (await page.post(f"commands/{op}", {"targets": ["pump-1"]}))[0] == 200
    assert [getattr(one, "reverted", None) for one in gateway.commands] == [True, False]


@pytest.mark.parametrize("op", ["pause", "resume"])
@pytest.mark.parametrize("devices", [(), ("pump-2",)])
async def test_a_pause_of_one_device_and_of_everything(
    tmp_path: Path, gateway: MadeUpGateway, op: str, devices: tuple[str, ...]
) -> None:
    async with a_web(tmp_path, gateway, password_file=a_password_file(tmp_path)) as page:
        await page.sign_in()
        assert (await page.post(f"commands/{op}", {"targets": list(devices)}))[0] == 200
    assert gateway.commands == [Hold.model_validate({"op": op, "devices": devices, "on_behalf_of": PERSON})]


async def test_no_other_operation_is_reached(tmp_path: Path, gateway: MadeUpGateway) -> None:
    async with a_web(tmp_path, gateway, password_file=a_password_file(tmp_path)) as page:
        await page.sign_in()
        for op in ("push", "reload", "watch", "approve/", "APPROVE"):
            assert (await page.post(f"commands/{op}", {"targets": []}))[0] in (404, 405)
    assert gateway.commands == []


async def test_whom_the_proxy_names_is_recorded_beside_who_signed_in(
    tmp_path: Path, gateway: MadeUpGateway
) -> None:
    settings = {"password_file": a_password_file(tmp_path), "user_header": "X-Remote-User-Name"}
    async with a_web(tmp_path, gateway, **settings) as page:
        assert (await page.post("commands/retry", {"targets": ["pump-1"]}, X_Remote_User_Name="bob"))[
            0
        ] == 401
        await page.sign_in()
        for said in ("Bob the\tBuilder", "x" * 200):
            await page.post("commands/retry", {"targets": ["pump-1"]}, X_Remote_User_Name=said)
    who = [getattr(one, "on_behalf_of", "") for one in gateway.commands]
    assert who == ["alice (Bob theBuilder)", f"alice ({'x' * 29})"]


async def test_a_header_that_was_not_named_says_nothing(tmp_path: Path, gateway: MadeUpGateway) -> None:
    async with a_web(tmp_path, gateway, password_file=a_password_file(tmp_path)) as page:
        await page.sign_in()
        await page.post("commands/retry", {"targets": ["pump-1"]}, X_Remote_User_Name="root")
    assert [getattr(one, "on_behalf_of", "") for one in gateway.commands] == [PERSON]


async def test_what_the_daemon_refuses_is_told_in_its_words(tmp_path: Path, gateway: MadeUpGateway) -> None:
    gateway.error = RequestError("job 7 can no longer be cancelled", code="too_late", hint="wait")
    async with a_web(tmp_path, gateway, password_file=a_password_file(tmp_path)) as page:
        await page.sign_in()
        status, said = await page.post("commands/cancel", {"targets": ["pump-1"]})
        assert (status, said["error"]) == (
            409,
            {"code": "too_late", "message": "job 7 can no longer be cancelled", "hint": "wait"},
        )
        assert (await page.get("device?name=pump-9"))[1]["error"]["code"] == "no_such_device"


async def test_a_daemon_that_is_away_is_told_so(tmp_path: Path) -> None:
    async with a_page(tmp_path, password_file=a_password_file(tmp_path)) as page:
        await page.sign_in()
        status, said = await page.post("commands/cancel", {"targets": ["pump-1"]})
        assert (status, said["error"]["code"]) == (503, "daemon_unreachable")


async def guess(page: WebPage, times: int) -> list[int]:
    return [await page.sign_in("wrong horse") for _ in range(times)]


@pytest.mark.attack("guessing passwords on the page")
async def test_guessing_is_slowed_down_and_the_right_password_is_no_way_around(
    tmp_path: Path, gateway: MadeUpGateway
) -> None:
    async with a_web(tmp_path, gateway, password_file=a_password_file(tmp_path)) as page:
        assert await guess(page, 7) == [401] * 5 + [429] * 2
        assert await page.sign_in() == 429
        assert (await page.get("device?name=pump-1", Authorization="Basic YWxpY2U6Y29ycmVjdCBob3JzZQ=="))[
            0
        ] == 429


async def test_guesses_at_the_same_moment_count_each(tmp_path: Path, gateway: MadeUpGateway) -> None:
    async with a_web(tmp_path, gateway, password_file=a_password_file(tmp_path)) as page:
        answers = await asyncio.gather(*(page.sign_in("wrong horse") for _ in range(20)))
        assert sorted(answers) == [401] * 5 + [429] * 15


async def test_a_person_who_is_not_there_takes_as_long_as_a_wrong_password(
    tmp_path: Path, gateway: MadeUpGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    monkeypatch.setattr(Hashed, "fits", lambda self, _: hashed.append(self.n * self.r * self.p))
    async with a_web(tmp_path, gateway, password_file=a_password_file(tmp_path)) as page:
        assert await page.sign_in("wrong horse") == 401
        assert await page.sign_in("wrong horse", "nobody") == 401
    assert hashed[0] == hashed[1]


async def test_a_program_signs_in_with_each_request_and_is_hashed_once(
    tmp_path: Path, gateway: MadeUpGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = []
    fits = Hashed.fits

    def counted(self: Hashed, said: str) -> bool:
        checks.append(said)
        return fits(self, said)

    monkeypatch.setattr(Hashed, "fits", counted)
    basic = "Basic YWxpY2U6Y29ycmVjdCBob3JzZQ=="  # alice:correct horse
    async with a_web(tmp_path, gateway, password_file=a_password_file(tmp_path)) as page:
        for _ in range(3):
            assert (await page.get("device?name=pump-1", Authorization=basic))[0] == 200
        for wrong in ("Basic ???", "Basic YWxpY2U=", "Bearer x", "Basic"):
            assert (await page.get("device?name=pump-1", Authorization=wrong))[0] == 401
    assert len(checks) == 2, "the right one, and a name without a password"


async def test_another_password_ends_the_sessions_that_began_with_the_old_one(
    tmp_path: Path, gateway: MadeUpGateway
) -> None:
    file = a_password_file(tmp_path)
    async with a_web(tmp_path, gateway, password_file=file) as page:
        await page.sign_in()
        set_password(file, PERSON, "another horse")
        assert (await page.get("device?name=pump-1"))[0] == 401
        assert await page.sign_in("another horse") == 200
        set_password(file, PERSON, None)
        assert (await page.get("device?name=pump-1"))[0] == 401


async def test_a_listener_whose_session_ends_hears_no_more(tmp_path: Path, gateway: MadeUpGateway) -> None:
    file = a_password_file(tmp_path)
    async with a_web(tmp_path, gateway, password_file=file) as page:
        await page.sign_in()
        async with page.events() as heard:
            await heard.until(lambda one: one.devices and one.gateway)
            set_password(file, PERSON, None)
            gateway.change(a_view("pump-1", "queued"))
            gateway.change(a_view("pump-1", "transferring"))
            while await heard.answer.content.readline():
                pass
            assert heard.devices["pump-1"]["state"] == "offered"


async def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(
    tmp_path: Path, gateway: MadeUpGateway
) -> None:
    async with a_web(tmp_path, gateway, password_file=a_password_file(tmp_path)) as page:
        sent = {"Origin": page.origin, "X-Gatewayd": "page"}
        body = {"user": PERSON, "password": PASSWORD}
        async with page.browser.post(f"{page.address}session", json=body, headers=sent) as answer:
            cookie = answer.headers["Set-Cookie"]
        assert "; HttpOnly; SameSite=Strict" in cookie
        assert "Path" not in cookie, "it goes to the page's folder, wherever a proxy has that"
        sent["X-Forwarded-Proto"] = "https"
        async with page.browser.post(f"{page.address}session", json=body, headers=sent) as answer:
            assert answer.headers["Set-Cookie"].endswith("; Secure")


async def test_sessions_are_bounded(
    tmp_path: Path, gateway: MadeUpGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "MOST_SESSIONS", 1)
    monkeypatch.setattr(Hashed, "fits", lambda *_: True)
    file = a_password_file(tmp_path)
    set_password(file, "bob", PASSWORD)
    basic = {"alice": "Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==", "bob": "Basic Ym9iOmNvcnJlY3QgaG9yc2U="}
    async with a_web(tmp_path, gateway, password_file=file) as page:
        for who in ("alice", "bob", "alice"):
            assert (await page.get("session", Authorization=basic[who]))[1]["user"] == who
