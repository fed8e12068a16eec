"""A page that asks: a server on this machine's own address, which answers with exact numbers of any pixel.

It listens on 127.0.0.1 alone. Its pages have a path that nobody can guess, and it answers only to names of this machine, so that
neither other users' programs nor pages of the web reach it.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from ..errors import CNNEngineError, InputError
from .pack import floats
from .view import View

HOST = "127.0.0.1"


class Server:
    """Answers a browser; `url` is where. Made with the page, started by `run`, or by `start` in a thread.

    Parameters
    ----------
    view : View
    page : str
        As `page(view, served=True)` makes it.
    port : int
        0 for any that is free.

    Raises
    ------
    InputError
        The port cannot be had.
    """

    def __init__(self, view: View, page: str, port: int = 0) -> None:
        self._view = view
        self._page = page.encode()
        self._token = secrets.token_urlsafe(24)
        self._numbers = view.numbers()
        try:
            self._server = ThreadingHTTPServer((HOST, port), self._handler())
        except (OSError, OverflowError) as error:
            raise InputError("cannot listen there", tensor="--port", received=port) from error
        self._server.daemon_threads = True
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_port}/{self._token}/"

    def run(self) -> None:
        """Answer until the process is interrupted."""
        try:
            self._server.serve_forever()
        finally:
            self._server.server_close()

    def start(self) -> Server:
        """Answer in a thread, until `close`."""
        self._thread = threading.Thread(target=self._server.serve_forever, name="cnnengine-view", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *args: object) -> None:
        self.close()

    # ------------------------------------------------------------ answers
    def answer(self, target: str) -> tuple[int, str, bytes]:
        """Status, type and body for what a browser asks for."""
        parts = urlsplit(target)
        token, _, path = parts.path.lstrip("/").partition("/")
        if not secrets.compare_digest(token.encode("utf-8", "replace"), self._token.encode()):
            return 404, "text/plain", b"not here"
        if path == "":
            return 200, "text/html; charset=utf-8", self._page
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        try:
            if path == "need":
                found = self._need(self._layer(query), query.get("index", ""))
            elif path == "map":
                found = self._map(self._layer(query), query.get("map", ""))
            else:
                return 404, "text/plain", b"not here"
        except CNNEngineError as error:
            return 400, "text/plain; charset=utf-8", str(error).encode()
        return 200, "application/json", json.dumps(found).encode()

    def _layer(self, query: dict[str, str]) -> int:
        return _whole(query.get("layer", ""), len(self._view.layers), "layer")

    def _need(self, at: int, text: str) -> dict[str, Any]:
        shape = self._view.layers[at].shape
        words = text.split(",")
        if len(words) != len(shape) or self._view.layers[at].shown is None:
            raise InputError("no such element", tensor="index", expected=f"{len(shape)} numbers", received=text)
        index = tuple(_whole(word, n, "index") for word, n in zip(words, shape, strict=True))
        boxes = []
        for (name, lo, hi), values in self._view.parts(at, index):
            extents = [b - a + 1 for a, b in zip(lo, hi, strict=True)]
            boxes.append({"t": self._numbers[name], "lo": list(lo), "n": extents, "data": _text(values)})
        return {"boxes": boxes}

    def _map(self, at: int, text: str) -> dict[str, Any]:
        layer = self._view.layers[at]
        if layer.shown is None:
            raise InputError("the layer has no maps", tensor="map", received=text)
        return {"data": _text(self._view.map_of(at, _whole(text, layer.shown.count(layer.shape), "map")).astype(np.float32))}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            server_version, sys_version = "cnnengine", ""
            timeout = 30

            def do_GET(self) -> None:
                name = (self.headers.get("Host") or "").rpartition(":")[0]
                site = self.headers.get("Sec-Fetch-Site")
                if name not in (HOST, "localhost") or site not in (None, "none", "same-origin"):
                    status, kind, body = 403, "text/plain", b"only for this machine's own pages"
                else:
                    status, kind, body = owner.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                for key, value in (
                    ("Cache-Control", "no-store"),
                    ("X-Content-Type-Options", "nosniff"),
                    ("Referrer-Policy", "no-referrer"),
                    ("Cross-Origin-Resource-Policy", "same-origin"),
                    ("X-Frame-Options", "DENY"),
                ):
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def _whole(text: str, below: int, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) < below):
        raise InputError("no such number", tensor=what, expected=f"0 to {below - 1}", received=text[:40])
    return int(text)


def _text(values: np.ndarray) -> str:
    """Numbers as the page reads them: bytes sorted by their place in a number, in base64."""
    data: Sequence[int] | np.ndarray = floats(values)
    array = np.ascontiguousarray(data)
    raw = array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8).reshape(-1, array.dtype.itemsize)
    return base64.b64encode(np.ascontiguousarray(raw.T).tobytes()).decode("ascii")
