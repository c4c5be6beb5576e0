"""A Hub on the loopback: the calls of `huggingface_hub` that write and read, and faults."""

import base64
import hashlib
import json
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_ofTheTests"
LARGE = (".parquet", ".tar")
"""What goes through LFS, as the Hub decides it for these."""


class Hub:
    """What it has, and what it was asked."""

    def __init__(self, faults):
        self.faults = faults
        self.files = {}
        self.objects = {}
        self.asked = Counter()
        self.private = None
        self.url = self.place = ""
        self.repository = ""
        """What is read from, ``OWNER/NAME``."""

    def fails(self, call):
        """Whether this is one of the first calls of its kind, which fail."""
        self.asked[call] += 1
        return self.asked[call] <= self.faults.get(call, 0)


@contextmanager
def hub(**faults):
    """The Hub while the block lasts; of each call named, so many fail at first."""
    state = Hub(faults)

    def described(path):
        oid = hashlib.sha1(state.files[path]).hexdigest()
        return {"type": "file", "path": path, "size": len(state.files[path]), "oid": oid}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, data, status=200, code=""):
            body = json.dumps(data).encode()
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
                self.send_header("X-Error-Message", data["error"])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def body(self):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def refuse(self, call):
            """A fault where one is due: a status, or the connection cut without an answer."""
            if not state.fails(call):
                return False
            if state.asked[call] % 2:
                self.answer({"error": "later"}, 503)
            else:
                self.close_connection = True
                self.connection.close()
            return True

        def do_PUT(self):
            content = self.body()
            if not self.refuse("put"):
                oid = self.path.rpartition("/")[2]
                assert hashlib.sha256(content).hexdigest() == oid
                state.objects[oid] = content
                self.answer({})

        def do_GET(self):
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.answer({"error": "who is it?"}, 401)
            if parts[0] == "datasets" and parts[3:4] == ["resolve"]:
                if not self.refuse("get"):
                    self.send_file("/".join(parts[5:]))
                return
            call, name = parts[4:5], "/".join(parts[2:4])
            if name != state.repository:
                self.answer({"error": "Repository not found"}, 404, "RepoNotFound")
            elif call in ([], ["revision"]):
                self.answer({"id": name, "sha": "1" * 40, "siblings": [], "tags": []})
            elif call == ["tree"]:
                if not self.refuse("tree"):
                    self.tree("/".join(parts[6:]))
            else:
                self.answer({"error": "no such call"}, 404)

        def tree(self, folder):
            start = f"{folder}/" if folder else ""
            found = [described(path) for path in state.files if path.startswith(start)]
            if not found:
                return self.answer({"error": "no such folder"}, 404, "EntryNotFound")
            self.answer(found)

        def send_file(self, path):
            content = state.files.get(path)
            if content is None:
                return self.answer({"error": "no such file"}, 404, "EntryNotFound")
            start, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
            part = content[int(start) : int(last) + 1]
            self.send_response(206)
            self.send_header("Content-Length", str(len(part)))
            stop = int(start) + len(part) - 1
            self.send_header("Content-Range", f"bytes {start}-{stop}/{len(content)}")
            self.end_headers()
            self.wfile.write(part)

        def do_POST(self):
            content = self.body()
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.answer({"error": "who is it?"}, 401)
            call = {
                "/api/repos/create": "create",
                "/api/validate-yaml": "yaml",
            }.get(self.path) or {
                "preupload": "modes",
                "commit": "commit",
                "objects": "batch",
                "paths-info": "paths",
            }[self.path.split("/")[-2]]
            if not self.refuse(call):
                self.answer(getattr(self, call)(content))

        def create(self, content):
            asked = json.loads(content)
            assert asked["type"] == "dataset"
            state.private = asked.get("private", asked.get("visibility") == "private")
            state.place = f"{state.url}/datasets/{asked['organization']}/{asked['name']}"
            return {"url": state.place}

        def paths(self, content):
            asked = parse_qs(content.decode())["paths"]
            return [described(path) for path in asked if path in state.files]

        def yaml(self, content):
            return {"errors": [], "warnings": []}

        def modes(self, content):
            return {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                        "shouldIgnore": False,
                    }
                    for file in json.loads(content)["files"]
                ]
            }

        def batch(self, content):
            asked = json.loads(content)
            assert "basic" in asked["transfers"]
            objects = []
            for entry in asked["objects"]:
                actions = {"upload": {"href": f"{state.url}/lfs/{entry['oid']}"}}
                there = entry["oid"] in state.objects
                objects.append(entry if there else {**entry, "actions": actions})
            return {"transfer": "basic", "objects": objects}

        def commit(self, content):
            for line in content.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    state.files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    state.files[value["path"]] = state.objects[value["oid"]]
            oid = "1" * 40
            return {"commitUrl": f"{state.place}/commit/{oid}", "commitOid": oid, "hookOutput": ""}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
