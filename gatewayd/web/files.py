"""The files of the page, read once: static ones, and its texts in each language that there is a file of."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

HERE = Path(__file__).parent
# The texts that the code was written with; a translation may leave some out.
OWN_LANGUAGE = "en"
_KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    kind: str
    tag: str

    @classmethod
    def of(cls, body: bytes, suffix: str) -> "_File":
        return cls(body, _KINDS[suffix], f'"{hashlib.sha256(body).hexdigest()[:16]}"')


class Files:
    """Answers with a file, or with 304 when the browser has it."""

    def __init__(self, folder: Path = HERE) -> None:
        self._static = {
            path.name: _File.of(path.read_bytes(), path.suffix) for path in (folder / "static").iterdir()
        }
        own = _catalogue(folder / "texts" / f"{OWN_LANGUAGE}.json")
        self._texts = {
            path.stem: _File.of(
                json.dumps(own | _catalogue(path) | {"language": path.stem}).encode(), ".json"
            )
            for path in (folder / "texts").glob("*.json")
        }

    def answer(self, request: web.Request, name: str) -> web.Response:
        """Return a static file. Raises HTTPNotFound."""
        if name not in self._static:
            raise web.HTTPNotFound
        return _answer(request, self._static[name])

    def texts(self, request: web.Request) -> web.Response:
        """Return the texts in the language that the browser likes best of those there are."""
        wanted = languages(request.headers.get("Accept-Language", ""))
        best = next((one for one in wanted if one in self._texts), OWN_LANGUAGE)
        response = _answer(request, self._texts[best])
        response.headers["Vary"] = "Accept-Language"
        return response


def languages(header: str) -> Iterator[str]:
    """Yield the languages of Accept-Language, the best first, without their regions."""
    ranked = []
    for part in header.split(",")[:20]:
        name, _, weight = part.partition(";")
        try:
            ranked.append((-float(weight.strip().removeprefix("q=") or 1), name.strip().lower()))
        except ValueError:
            continue
    for _, name in sorted(ranked, key=lambda one: one[0]):
        yield name.partition("-")[0]


def _answer(request: web.Request, file: _File) -> web.Response:
    headers = {"ETag": file.tag, "Cache-Control": "no-cache"}
    if request.headers.get("If-None-Match") == file.tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=file.body, content_type=file.kind, charset="utf-8", headers=headers)


def _catalogue(path: Path) -> dict[str, str]:
    texts: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return texts
