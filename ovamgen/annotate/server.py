"""The annotation page and what it asks for, as an aiohttp application.

Everything lies below ``/TOKEN/``: the page, ``samples``, ``images/KEY``, ``annotations/KEY`` (GET,
and PUT of a PNG) and ``left_out/KEY`` (PUT, DELETE). Changes carry the version they were made to in
If-Match; answers carry the new one.
"""

from __future__ import annotations

import io
from importlib import resources
from typing import Any

import numpy as np
from aiohttp import web
from jaxtyping import Bool
from PIL import Image

from ovamgen.annotate.annotations import Annotations
from ovamgen.annotate.guard import guard
from ovamgen.annotate.pictures import foreground
from ovamgen.errors import ConfigError
from ovamgen.pictures.sample_folder import Sample

LARGEST_BODY_BYTES = 8 * 2**20
"""More than a mask of 4096 x 4096 pixels needs, unless it is noise."""
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


def build_app(annotations: Annotations, token: str) -> web.Application:
    """The application that serves one folder to whoever knows the token."""
    app = web.Application(client_max_size=LARGEST_BODY_BYTES)
    guard(app, token)
    desk = _Desk(annotations)
    root = f"/{token}"
    app.add_routes(
        [
            web.get(f"{root}/", desk.get_index),
            web.get(f"{root}/page/{{name}}", desk.get_file),
            web.get(f"{root}/samples", desk.get_samples),
            web.get(f"{root}/images/{{key}}", desk.get_image),
            web.get(f"{root}/annotations/{{key}}", desk.get_annotation),
            web.put(f"{root}/annotations/{{key}}", desk.put_annotation),
            web.put(f"{root}/left_out/{{key}}", desk.put_left_out),
            web.delete(f"{root}/left_out/{{key}}", desk.delete_left_out),
        ]
    )
    return app


class _Desk:
    """The handlers. Each change is one stretch without ``await``: no other change comes between."""

    def __init__(self, annotations: Annotations) -> None:
        self._annotations = annotations
        page = resources.files("ovamgen.annotate") / "page"
        # read once, and looked up by name: a name is never a path
        self._files = {file.name: file.read_bytes() for file in page.iterdir() if file.is_file()}

    async def get_index(self, request: web.Request) -> web.Response:
        return self._file("index.html")

    async def get_file(self, request: web.Request) -> web.Response:
        return self._file(request.match_info["name"])

    async def get_samples(self, request: web.Request) -> web.Response:
        folder = self._annotations.folder
        return web.json_response(
            {
                "folder": folder.root.resolve().name,
                "counts": self._counts(),
                "samples": [
                    {
                        "key": sample.key,
                        "phrase": folder.classes.by_name(sample.class_name).phrase,
                        "prompt": sample.prompt,
                        "word_included": sample.word_included,
                        "state": self._annotations.state(sample),
                    }
                    for sample in folder.samples
                ],
            }
        )

    async def get_image(self, request: web.Request) -> web.StreamResponse:
        sample = self._sample(request)
        self._annotations.size(sample)
        headers = {"Content-Type": "image/png"}
        return web.FileResponse(self._annotations.folder.image_path(sample), headers=headers)

    async def get_annotation(self, request: web.Request) -> web.Response:
        sample = self._sample(request)
        etag = {"ETag": f'"{self._annotations.version(sample)}"'}
        try:
            mask = self._annotations.mask(sample)
        except ConfigError as error:
            # with its version, so that a damaged file can be replaced
            return web.json_response({"error": str(error)}, status=422, headers=etag)
        if mask is None:
            return web.Response(status=204, headers=etag)
        return web.Response(body=_png(mask), content_type="image/png", headers=etag)

    async def put_annotation(self, request: web.Request) -> web.Response:
        sample, version = self._sample(request), _if_match(request)
        if request.content_type != "image/png":
            raise web.HTTPUnsupportedMediaType(reason="a mask must come as image/png")
        data = await request.read()
        mask = foreground(data, self._annotations.size(sample), f"the mask of {sample.key}")
        self._annotations.save(sample, mask, version)
        return self._done(sample)

    async def put_left_out(self, request: web.Request) -> web.Response:
        sample = self._sample(request)
        self._annotations.leave_out(sample, _if_match(request))
        return self._done(sample)

    async def delete_left_out(self, request: web.Request) -> web.Response:
        sample = self._sample(request)
        self._annotations.take_in(sample, _if_match(request))
        return self._done(sample)

    def _sample(self, request: web.Request) -> Sample:
        return self._annotations.sample(request.match_info["key"])

    def _file(self, name: str) -> web.Response:
        kind = _TYPES.get(name[name.rfind(".") :])
        if name not in self._files or kind is None:
            raise web.HTTPNotFound
        return web.Response(body=self._files[name], content_type=kind, charset="utf-8")

    def _done(self, sample: Sample) -> web.Response:
        version = self._annotations.version(sample)
        answer = {"state": self._annotations.state(sample), "counts": self._counts()}
        return web.json_response(answer, headers={"ETag": f'"{version}"'})

    def _counts(self) -> dict[str, Any]:
        counts = self._annotations.counts()
        return {name: getattr(counts, name) for name in ("total", "annotated", "left_out")}


def _if_match(request: web.Request) -> str:
    if (value := request.headers.get("If-Match")) is None:
        raise web.HTTPPreconditionRequired(reason="a change must name its version in If-Match")
    return value.strip().strip('"')


def _png(mask: Bool[np.ndarray, "H W"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()
