"""Files out (/view) and in (/upload): recordings 10 and 16."""

import asyncio
import hashlib
import io
import json
import mimetypes
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web
from PIL import Image

from comfy_worker.simulator.faults import Faults
from comfy_worker.simulator.storage import OutsideDirectoryError, Storage, split_annotation

PREVIEW_FORMATS = ("webp", "jpeg")
DEFAULT_PREVIEW_QUALITY = 90
# Never shown as what they are, so that a browser does not run them.
ACTIVE_TYPES = frozenset(
    {"text/html", "text/html-sandboxed", "application/xhtml+xml", "text/javascript", "text/css"}
)


class FileRoutes:
    """Handlers for /view, /upload/image and /upload/mask."""

    def __init__(self, storage: Storage, faults: Faults) -> None:
        self._storage = storage
        self._faults = faults

    def table(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/view", self._view),
            web.post("/upload/image", self._upload_image),
            web.post("/upload/mask", self._upload_mask),
        ]

    async def _view(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        if "filename" not in query:
            return web.Response(status=404)
        found = self._find(
            query["filename"], query.get("type", "output"), query.get("subfolder", "")
        )
        if isinstance(found, int):
            return web.Response(status=found)
        named = {"Content-Disposition": f'filename="{found.name}"'}
        if "preview" in query:
            image, kind = await asyncio.to_thread(
                _preview, found, query["preview"], query.get("channel", "")
            )
            return web.Response(body=image, content_type=f"image/{kind}", headers=named)
        channel = query.get("channel", "rgba")
        if channel in {"rgb", "a"}:
            image = await asyncio.to_thread(_channel, found, channel)
            return web.Response(body=image, content_type="image/png", headers=named)
        content_type = mimetypes.guess_type(found.name)[0] or "application/octet-stream"
        if content_type in ACTIVE_TYPES:
            content_type = "application/octet-stream"
        return web.FileResponse(found, headers=named | {"Content-Type": content_type})

    def _find(self, filename: str, kind: str, subfolder: str) -> Path | int:
        """Return the file to show, or the status that says why there is none."""
        name, annotated = split_annotation(filename)
        if not name or name.startswith("/") or ".." in name:
            return 400
        try:
            folder = self._storage.inside(annotated or kind, subfolder)
        except KeyError:
            return 400
        except OutsideDirectoryError:
            return 403
        path = folder / Path(name).name
        return path if path.is_file() and not self._faults.files_are_gone else 404

    async def _upload_image(self, request: web.Request) -> web.Response:
        form = await request.post()
        image = form.get("image")
        if not isinstance(image, web.FileField):
            return web.Response(status=400 if image is None else 500)
        content = image.file.read()
        return await self._store(form, image.filename, content)

    async def _upload_mask(self, request: web.Request) -> web.Response:
        form = await request.post()
        image = form.get("image")
        if not isinstance(image, web.FileField):
            return web.Response(status=400 if image is None else 500)
        reference = json.loads(str(form["original_ref"]))
        found = self._find(
            reference["filename"], reference.get("type", "output"), reference.get("subfolder", "")
        )
        if isinstance(found, int):
            return web.Response(status=400)
        content = await asyncio.to_thread(_with_mask, found, image.file.read())
        return await self._store(form, image.filename, content)

    async def _store(
        self, form: Mapping[str, object], filename: str, content: bytes
    ) -> web.Response:
        """Write an uploaded file.

        Without `overwrite` another file of the name is kept: the new one becomes `name (1)`;
        the same file is not written twice (recording 10).
        """
        kind = str(form.get("type", "input"))
        subfolder = str(form.get("subfolder", ""))
        try:
            path = self._storage.inside(kind, subfolder, filename)
        except OutsideDirectoryError:
            return web.Response(status=400)
        path = await asyncio.to_thread(
            _write, path, content, overwrite=form.get("overwrite") in {"true", "1"}
        )
        return web.json_response({"name": path.name, "subfolder": subfolder, "type": kind})


def _write(path: Path, content: bytes, *, overwrite: bool) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(content).digest()
    stem, number = path.stem, 1
    while path.exists() and not overwrite:
        if hashlib.sha256(path.read_bytes()).digest() == digest:
            return path
        path = path.with_name(f"{stem} ({number}){path.suffix}")
        number += 1
    path.write_bytes(content)
    return path


def _preview(path: Path, wanted: str, channel: str) -> tuple[bytes, str]:
    kind, *rest = wanted.split(";")
    if kind not in PREVIEW_FORMATS or "a" in channel:
        kind = "webp"
    quality = int(rest[-1]) if rest and rest[-1].isdigit() else DEFAULT_PREVIEW_QUALITY
    with Image.open(path) as image:
        flat = image.convert("RGB") if kind == "jpeg" or channel == "rgb" else image
        buffer = io.BytesIO()
        flat.save(buffer, format=kind, quality=quality)
    return buffer.getvalue(), kind


def _channel(path: Path, channel: str) -> bytes:
    with Image.open(path) as image:
        if channel == "rgb":
            shown = image.convert("RGB")
        else:
            shown = Image.new("RGBA", image.size)
            shown.putalpha(image.convert("RGBA").getchannel("A"))
    buffer = io.BytesIO()
    shown.save(buffer, format="PNG")
    return buffer.getvalue()


def _with_mask(original: Path, mask: bytes) -> bytes:
    """Return the original picture with the mask's alpha channel, as a PNG."""
    with Image.open(original) as image, Image.open(io.BytesIO(mask)) as drawn:
        result = image.convert("RGBA")
        result.putalpha(drawn.convert("RGBA").getchannel("A").resize(result.size))
    buffer = io.BytesIO()
    result.save(buffer, format="PNG", compress_level=4)
    return buffer.getvalue()
