"""``/logs/``: the log files of this node, read-only: its pods' (where ``kubectl logs`` reads).

Only what is really below the directory: a link that leads out of it does not exist here.
"""

from __future__ import annotations

import html
import os

from pilothouse.kubelet.server.interfaces import Refusal, Response

MAX_FILE = 64 << 20


def serve(root_dir: str, parts: list[str], path: str) -> Response:
    """A directory's listing or the (end of a) file. :raises Refusal: 404."""
    if any(part in (".", "..") or "\0" in part for part in parts):
        raise Refusal(404, "404 page not found")
    base = os.path.realpath(os.path.join(root_dir, "logs"))
    target = os.path.realpath(os.path.join(base, *parts)) if parts else base
    if target != base and not target.startswith(base + os.sep):
        raise Refusal(404, "404 page not found")
    try:
        if target == base or os.path.isdir(target):
            return _listing(target, parts, path)
        with open(target, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(size - MAX_FILE, 0))
            return Response(body=file.read(MAX_FILE), content_type="text/plain; charset=utf-8")
    except OSError as error:
        raise Refusal(404, "404 page not found") from error


def _listing(target: str, parts: list[str], path: str) -> Response:
    if parts and not path.endswith("/"):
        # Relative links only work below a path that ends like a directory.
        return Response(301, headers=[("Location", f"{parts[-1]}/")])
    try:
        entries = sorted(os.scandir(target), key=lambda entry: entry.name)
    except FileNotFoundError:
        entries = []  # no pod has run here yet
    lines = []
    for entry in entries:
        name = html.escape(entry.name + ("/" if entry.is_dir() else ""))
        lines.append(f'<a href="{name}">{name}</a>')
    body = "<!doctype html>\n<pre>\n" + "".join(f"{line}\n" for line in lines) + "</pre>\n"
    return Response(body=body.encode(), content_type="text/html; charset=utf-8")
