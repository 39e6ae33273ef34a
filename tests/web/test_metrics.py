"""`/metrics`: what Prometheus scrapes from the page's process."""

from base64 import b64encode
from pathlib import Path

from lab.web import PASSWORD, PERSON, MadeUpGateway, a_password_file, a_view, a_web


async def test_the_devices_are_in_it(tmp_path: Path) -> None:
    async with (
        a_web(tmp_path, MadeUpGateway(a_view(state="transferring", progress=43))) as page,
        page.browser.get(f"{page.address}metrics") as answer,
    ):
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        text = await answer.text()
    assert 'gatewayd_device_progress_ratio{app="pump",device="pump-1"} 0.43' in text


async def test_with_a_password_file_it_wants_basic_authentication(tmp_path: Path) -> None:
    async with a_web(tmp_path, MadeUpGateway(a_view()), password_file=a_password_file(tmp_path)) as page:
        assert (await page.get("metrics"))[0] == 401
        proof = b64encode(f"{PERSON}:{PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {proof}"}
        async with page.browser.get(f"{page.address}metrics", headers=headers) as answer:
            assert answer.status == 200
