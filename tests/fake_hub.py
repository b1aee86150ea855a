"""A hub on loopback, as much of its protocol as the real client needs to make, fill and read a repository."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "c" * 40


class Hub:
    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.refuse = False
        self.url = ""


@contextmanager
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def reply(self, content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if state.refuse:
                return self.reply({"error": "Invalid credentials"}, status=401)
            if self.path == "/api/validate-yaml":
                return self.reply({"errors": [], "warnings": []})
            if self.path == "/api/repos/create":
                told = json.loads(body)
                name = "/".join(filter(None, (told.get("organization"), told["name"])))
                state.files.setdefault(name, {})
                return self.reply({"url": f"{state.url}/{name}", "id": name})
            made = re.fullmatch(
                r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", self.path.partition("?")[0]
            )
            assert made is not None, self.path
            if made[2] == "preupload":
                files = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in json.loads(body)["files"]
                ]
                return self.reply({"files": files})
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    state.files[made[1]][line["value"]["path"]] = content
            return self.reply({"commitUrl": f"{state.url}/{made[1]}/commit/{COMMIT}", "commitOid": COMMIT})

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if (found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/.*)?", path)) and found[1] in state.files:
                files = state.files[found[1]]
                if tree := re.fullmatch(r"/tree/[^/]+/?(.*)", found[2] or ""):
                    below = {n: c for n, c in files.items() if n.startswith(tree[1])}
                    if not below:
                        return self.reply(b"", status=404, headers={"X-Error-Code": "EntryNotFound"})
                    return self.reply(
                        [
                            {"type": "file", "path": n, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                            for n, c in below.items()
                        ]
                    )
                siblings = [{"rfilename": name} for name in files]
                return self.reply({"id": found[1], "sha": COMMIT, "siblings": siblings})
            if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
                content = state.files.get(found[1], {}).get(found[2])
                if content is None:
                    kind = "EntryNotFound" if found[1] in state.files else "RepoNotFound"
                    return self.reply(
                        b"", status=404, headers={"X-Error-Code": kind, "X-Repo-Commit": COMMIT}
                    )
                etag = hashlib.sha256(content).hexdigest()
                return self.reply(content, headers={"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
            return self.reply({"error": "not found"}, status=404, headers={"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
