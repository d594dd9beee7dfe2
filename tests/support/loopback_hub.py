"""A Hugging Face Hub in this process, on 127.0.0.1: models, branches, commits, downloads and uploads.

It answers the requests of huggingface_hub about models. Files with the suffix `.safetensors` are large files and are
transferred by Git LFS.
"""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


TOKEN = "hf_loopback"


@dataclass
class Repository:
    """The files of each commit by its id, and the last commit of each branch."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Adds files to a branch, which is created if it does not exist. Returns the id of the commit."""
        files = self.commits.get(self.branches.get(branch), {}) | files
        digest = hashlib.sha1(str(len(self.commits)).encode())
        for path, content in sorted(files.items()):
            digest.update(path.encode() + content)
        oid = digest.hexdigest()
        self.commits[oid] = files
        self.branches[branch] = oid
        return oid

    def resolve(self, revision: str) -> str | None:
        oid = self.branches.get(revision, revision)
        return oid if oid in self.commits else None


class LoopbackHub(ThreadingHTTPServer):
    """The server, as a context manager that serves in a thread.

    `repositories` holds the models by name, and `requests` every request as "METHOD path". The user with `TOKEN` is
    called owner. If `is_read_only`, every commit is refused.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.large_files: dict[str, bytes] = {}
        self.is_read_only = False

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that make huggingface_hub use this server only."""
        return {"HF_ENDPOINT": self.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.shutdown()
        self.server_close()

    def add(self, name: str, folder: Path, branch: str = "main") -> Repository:
        """Commits the files of a folder to a branch of a repository."""
        repository = self.repositories.setdefault(name, Repository())
        files = (path for path in folder.rglob("*") if path.is_file())
        repository.commit({path.relative_to(folder).as_posix(): path.read_bytes() for path in files}, branch)
        return repository


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each body waits 40 ms for the acknowledgment of its headers

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def do_POST(self):
        self._answer()

    def do_PUT(self):
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(f"{self.command} /{path}")
        parts = path.split("/")
        writes = self.command in ("POST", "PUT") and parts[0] != "lfs"
        if (writes or path == "api/whoami-v2") and not self._is_allowed():
            self._send(401, {"error": "Invalid username or password."})
        elif parts[0] == "lfs":
            self.server.large_files[parts[1]] = body
            self._send(200, {})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for item in objects:
                item["actions"] = {"upload": {"href": f"{self.server.endpoint}/lfs/{item['oid']}"}}
            self._send(200, {"transfer": "basic", "objects": objects})
        elif parts[0] == "api":
            self._answer_api(parts[1:], body)
        else:
            self._resolve("/".join(parts[:2]), *parts[3:4], "/".join(parts[4:]))

    def _answer_api(self, parts: list[str], body: bytes) -> None:
        match parts:
            case ["whoami-v2"]:
                self._send(200, {"name": "owner", "type": "user", "orgs": [{"name": "lab"}]})
            case ["validate-yaml"]:
                self._send(200, {"errors": [], "warnings": []})
            case ["repos", "create"]:
                self._create(json.loads(body))
            case ["models", *_]:
                self._models("/".join(parts[1:3]), parts[3:], body)
            case _:
                self._send(404, {"error": "no such endpoint"})

    def _is_allowed(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _create(self, wanted: dict) -> None:
        name = f"{wanted.get('organization') or 'owner'}/{wanted['name']}"
        existing = name in self.server.repositories
        if not existing:
            private = wanted.get("visibility") == "private" or wanted.get("private") is True
            self.server.repositories[name] = Repository(private)
            self.server.repositories[name].commit({})
        self._send(409 if existing else 200, {"url": f"{self.server.endpoint}/{name}", "name": name})

    def _find(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The id and files of a revision. Sends an error and returns None if there is none."""
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not self._is_allowed()):
            return self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        oid = repository.resolve(revision)
        if oid is None:
            return self._send(404, {"error": "Revision not found"}, {"X-Error-Code": "RevisionNotFound"})
        return oid, repository.commits[oid]

    def _models(self, name: str, parts: list[str], body: bytes) -> None:
        action, revision = parts[0] if parts else "revision", parts[1] if len(parts) > 1 else "main"
        found = self._find(name, revision)
        if found is None:
            return
        oid, files = found
        if action == "revision":
            siblings = [{"rfilename": path} for path in files]
            self._send(200, {"id": name, "modelId": name, "sha": oid, "private": False, "siblings": siblings})
        elif action == "tree":
            self._send(200, [self._entry(path, content) for path, content in files.items()])
        elif action == "preupload":
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self._send(200, {"files": modes})
        elif action == "commit" and self.server.is_read_only:
            self._send(403, {"error": "This repository is read-only"})
        elif action == "commit":
            added = {}
            for line in body.decode().splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    added[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
                elif item["key"] == "lfsFile":
                    added[item["value"]["path"]] = self.server.large_files[item["value"]["oid"]]
            oid = self.server.repositories[name].commit(added, revision)
            url = f"{self.server.endpoint}/{name}/commit/{oid}"
            self._send(200, {"success": True, "commitOid": oid, "commitUrl": url})
        else:
            self._send(404, {"error": f"no such endpoint: {action}"})

    def _entry(self, path: str, content: bytes) -> dict:
        entry = {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": path}
        if path.endswith(".safetensors"):
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
        return entry

    def _resolve(self, name: str, revision: str, path: str) -> None:
        found = self._find(name, revision)
        if found is None:
            return
        oid, files = found
        if path not in files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid}
            return self._send(404, {"error": "Entry not found"}, headers)
        entry = self._entry(path, files[path])
        headers = {"X-Repo-Commit": oid, "ETag": f'"{entry["oid"]}"'}
        if "lfs" in entry:
            headers |= {"X-Linked-Etag": f'"{entry["lfs"]["oid"]}"', "X-Linked-Size": str(entry["size"])}
        self._send(200, files[path], headers)

    def _send(self, status: int, content: dict | list | bytes, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if not isinstance(content, bytes):
            self.send_header("Content-Type", "application/json")
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
