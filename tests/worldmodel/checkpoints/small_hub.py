"""A server on this machine that stores and serves repositories as the Hugging Face hub does."""

import base64
import hashlib
import http.server
import json
import re
import threading
from contextlib import contextmanager

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers the requests of `hf_hub_download`, `create_repo` and `upload_folder`."""

    def do_HEAD(self):
        self.resolve(with_body=False)

    def do_GET(self):
        self.resolve(with_body=True)

    def resolve(self, *, with_body):
        found = RESOLVE.fullmatch(self.path.partition("?")[0])
        content = self.server.files.get((found[1], found[2], found[3])) if found else None
        self.server.seen.append((self.command, self.path))
        if content is None:
            return self.reply({}, 404, {"X-Error-Code": "EntryNotFound"})
        is_large = found[3].endswith(".safetensors")
        sha1 = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        etag = hashlib.sha256(content).hexdigest() if is_large else sha1
        sent = content[::-1] if is_large and found[1] == self.server.swapped else content
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        return self.reply(sent if with_body else b"", 200, headers, len(content))

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path))
        if self.server.refusal:
            return self.reply({"error": "no write access"}, self.server.refusal)
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            self.server.created.append(asked)
            owner = f"{asked.get('organization') or 'user'}/{asked['name']}"
            return self.reply({"url": f"{self.server.address}/{owner}"})
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            return self.reply({"files": [self.mode_of(file["path"]) for file in files]})
        if self.path.endswith("/info/lfs/objects/batch"):
            asked = json.loads(body)["objects"]
            to = [{"upload": {"href": f"{self.server.address}/put/{o['oid']}"}} for o in asked]
            objects = [{**o, "actions": a} for o, a in zip(asked, to, strict=True)]
            return self.reply({"transfer": "basic", "objects": objects})
        if "/commit/" in self.path:
            return self.commit([json.loads(line) for line in body.splitlines()])
        return self.reply({})

    @staticmethod
    def mode_of(path):
        mode = "lfs" if path.endswith(".safetensors") else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False}

    def commit(self, lines):
        repo, revision = re.match(r"/api/models/([^/]+/[^/]+)/commit/([^/?]+)", self.path).groups()
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                content = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                content = self.server.stored[value["oid"]]
            else:
                continue
            self.server.files[repo, revision, value["path"]] = content
        url = f"{self.server.address}/{repo}/commit/{COMMIT}"
        return self.reply({"success": True, "commitOid": COMMIT, "commitUrl": url})

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.stored[oid] = body
        self.reply({})

    def reply(self, body, status=200, headers=None, length=None):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def small_hub():
    """Run a server; its `files` maps (repository, revision, file) to content."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.stored, server.created, server.seen = {}, {}, [], []
    server.swapped, server.refusal = "", 0
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
