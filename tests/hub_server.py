"""A small Hugging Face Hub on loopback: it speaks the real protocol to the unmodified client libraries.

Repositories (models, data sets, Spaces) with commits, branches and tags live in memory. `huggingface_hub` and
`datasets` reach it through `HF_ENDPOINT`; with `HF_HUB_DISABLE_XET=1` they upload over git-LFS. To try the whole chain
by hand:

    python tests/hub_server.py --port 8765

prints the environment to export in another terminal, and serves until it is interrupted.
"""

import argparse
import base64
import contextlib
import copy
import hashlib
import json
import re
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, unquote

import uvicorn
import yaml
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
LFS_SUFFIXES = (".safetensors", ".parquet", ".arrow", ".bin", ".pt", ".onnx", ".zip", ".gz", ".npy", ".npz")
LFS_SIZE = 10 * 2**20
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"


class HttpError(Exception):
    """An answer other than success; `code` is what the clients choose the exception class by."""

    def __init__(self, status: int, message: str, *, code: str | None = None, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.message = status, message
        self.headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}


class RequestLine(NamedTuple):
    """What the server remembers of a request."""

    method: str
    path: str
    status: int


@dataclass
class Blob:
    """One version of one file. `oid` is git's name for it: of the content, or of the pointer if it lies in LFS."""

    content: bytes
    is_lfs: bool
    commit: str = ""

    def __post_init__(self) -> None:
        self.sha256 = hashlib.sha256(self.content).hexdigest()
        stored = POINTER.format(oid=self.sha256, size=len(self.content)).encode() if self.is_lfs else self.content
        self.pointer_size = len(stored)
        self.oid = hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.oid


@dataclass
class Commit:
    sha: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: dict[str, Blob]


@dataclass
class Repo:
    kind: str
    id: str
    private: bool
    sdk: str | None = None
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def add_commit(self, branch: str, files: dict[str, Blob], title: str, message: str, author: str) -> Commit:
        # The random part keeps the sha of a repository that is deleted and made again from meeting an old cache.
        sha = hashlib.sha1(f"{self.branches.get(branch)}{title}{secrets.token_hex()}".encode()).hexdigest()
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        for blob in files.values():
            blob.commit = blob.commit or sha
        self.commits[sha] = Commit(sha, self.branches.get(branch), title, message, author, date, files)
        self.branches[branch] = sha
        return self.commits[sha]

    def at(self, revision: str) -> Commit:
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        if sha not in self.commits and re.fullmatch("[0-9a-f]{7,39}", sha):
            sha = next((full for full in self.commits if full.startswith(sha)), sha)
        if sha not in self.commits:
            raise HttpError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        return self.commits[sha]

    def history(self, commit: Commit) -> Iterable[Commit]:
        while True:
            yield commit
            if commit.parent is None:
                return
            commit = self.commits[commit.parent]


@dataclass
class Fault:
    count: int
    status: int | None
    path_contains: str
    method: str | None
    headers: dict[str, str]
    how: str


class HubServer:
    """The server: a context manager that answers on 127.0.0.1 while it is open.

    `endpoint`, `token` and `user` say how to reach it and as whom; `environment()` says it to other processes.

    Args:
        port: Where to listen; 0 takes a free port. It is taken at once, and answers from `start()` on.
    """

    def __init__(self, *, port: int = 0, user: str = "artist") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.endpoint = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.user = user
        self.token = f"hf_{secrets.token_hex(17)}"
        self._home = tempfile.TemporaryDirectory(prefix="hub-home-")
        self.reset()
        config = uvicorn.Config(_Faulty(self, _application(self)), log_level="error", lifespan="off", access_log=False)
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._uvicorn.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def reset(self) -> None:
        """Forget everything but the first user: repositories, other users, faults, requests, what clients cached."""
        for path in Path(self._home.name).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.users = {self.token: self.user}
        self.read_only: set[str] = set()
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.keys: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.requests: list[RequestLine] = []

    def start(self) -> "HubServer":
        self._socket.listen(128)
        self._thread.start()
        with contextlib.closing(socket.create_connection(("127.0.0.1", self._socket.getsockname()[1]))) as probe:
            probe.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            probe.recv(1)  # the connection waits in the backlog until the server runs
        return self

    def stop(self) -> None:
        self._uvicorn.should_exit = self._uvicorn.force_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()
        self._home.cleanup()

    def __enter__(self) -> "HubServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def environment(self) -> dict[str, str]:
        """The variables with which a process talks to this Hub, and to this one only, as `user`."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": self.token,
            "HF_HOME": self._home.name,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def add_user(self, name: str, *, read_only: bool = False) -> str:
        """Make a user (or one more token for one) and return the token; a read-only token may not write anywhere."""
        token = f"hf_{secrets.token_hex(17)}"
        self.users[token] = name
        if read_only:
            self.read_only.add(token)
        return token

    def fail_next(
        self,
        count: int,
        status: int | None,
        *,
        path_contains: str = "",
        method: str | None = None,
        headers: dict[str, str] | None = None,
        how: Literal["cut", "corrupt", "stall", "silence"] = "cut",
    ) -> None:
        """Answer the next `count` requests whose path and query contain the text with an error.

        Args:
            count: How many requests fail; later ones are served again.
            status: The HTTP status; or None to do what is asked, and spoil the answer.
            path_contains: Only requests to such paths count.
            method: Only requests with this method count.
            headers: Sent along, `{"Retry-After": "0"}` for instance.
            how: What happens in the middle of a spoilt answer: the connection is cut, a bit is flipped, or nothing more
                comes until the client has had enough. With "silence" there is not even the beginning of one.
        """
        self.faults.append(Fault(count, status, path_contains, method, headers or {}, how))

    def repo(self, repo_id: str, kind: str = "model") -> Repo:
        """The repository as the server holds it; KeyError if there is none."""
        return self.repos[kind, repo_id]

    def files(self, repo_id: str, kind: str = "model", revision: str = "main") -> dict[str, bytes]:
        """Path and content of each file at a revision."""
        return {path: blob.content for path, blob in self.repo(repo_id, kind).at(revision).files.items()}

    def writes(self) -> list[RequestLine]:
        """The requests so far that could have changed something."""
        return [line for line in self.requests if line.method in ("POST", "PUT", "DELETE")]


class _Faulty:
    """The outermost ASGI layer: faults, the request log, and paths whose %2F is not a slash."""

    def __init__(self, server: HubServer, app: FastAPI) -> None:
        self.server, self.app = server, app

    async def __call__(self, scope: dict, receive: Callable[[], Awaitable], send: Callable[[dict], Awaitable]) -> None:
        # A branch such as refs%2Fpr%2F1 is one segment; the handlers unquote what they are given.
        scope = {**scope, "path": scope["raw_path"].decode("ascii")}
        path = scope["path"] + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
        fault = self._next_fault(scope["method"], path)

        async def logged(message: dict) -> None:
            if message["type"] == "http.response.start":
                self.server.requests.append(RequestLine(scope["method"], path, message["status"]))
            await send(message)

        if fault is None:
            await self.app(scope, receive, logged)
        elif fault.status is not None:
            await JSONResponse({"error": "as asked"}, fault.status, headers=fault.headers)(scope, receive, logged)
        else:
            self.server.requests.append(RequestLine(scope["method"], path, 0))
            while fault.how == "silence":
                if (await receive())["type"] == "http.disconnect":
                    return
            messages: list[dict] = []

            async def collect(message: dict) -> None:
                messages.append(message)

            await self.app(scope, receive, collect)
            body = bytearray(b"".join(message.get("body", b"") for message in messages))
            await send(messages[0])
            if fault.how == "corrupt":
                body[len(body) // 2] ^= 1
                await send({"type": "http.response.body", "body": bytes(body)})
                return
            await send({"type": "http.response.body", "body": bytes(body[: len(body) // 2]), "more_body": True})
            while fault.how == "stall" and (await receive())["type"] != "http.disconnect":
                pass

    def _next_fault(self, method: str, path: str) -> Fault | None:
        for fault in self.server.faults:
            if fault.count > 0 and fault.path_contains in path and fault.method in (None, method):
                fault.count -= 1
                return fault
        return None


def _application(server: HubServer) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.exception_handler(HttpError)
    async def refuse(request: Request, error: HttpError) -> JSONResponse:
        return JSONResponse({"error": error.message}, error.status, headers=error.headers)

    def user_of(request: Request) -> str | None:
        header = request.headers.get("authorization")
        if header is None:
            return None
        user = server.users.get(header.removeprefix("Bearer "))
        if user is None:
            raise HttpError(401, "Invalid credentials in Authorization header")
        return user

    def require_writer(request: Request, namespace: str) -> str:
        user = user_of(request)
        if user is None:
            raise HttpError(401, "Invalid username or password.")
        if user != namespace or request.headers["authorization"].removeprefix("Bearer ") in server.read_only:
            raise HttpError(403, f'You don\'t have the rights to write under the namespace "{namespace}"')
        return user

    def find(request: Request, kinds: str, namespace: str, name: str, *, write: bool = False) -> Repo:
        user = user_of(request)
        repo = server.repos.get((KINDS.get(kinds, kinds), f"{namespace}/{name}"))
        if repo is None or (repo.private and user != namespace):
            # As on the real Hub, a stranger does not learn whether a private repository exists.
            raise HttpError(401 if user is None else 404, "Repository not found", code="RepoNotFound")
        if write:
            require_writer(request, namespace)
        return repo

    # --- who, and which repositories

    @app.get("/api/health")
    async def health() -> dict:
        return {"status": "ok"}

    @app.get("/api/whoami-v2")
    async def whoami(request: Request) -> dict:
        user = user_of(request)
        if user is None:
            raise HttpError(401, "Invalid username or password.")
        is_read_only = request.headers["authorization"].removeprefix("Bearer ") in server.read_only
        access = {"displayName": "test", "role": "read" if is_read_only else "write"}
        auth = {"type": "access_token", "accessToken": access}
        return {"type": "user", "id": user, "name": user, "fullname": user, "orgs": [], "auth": auth}

    @app.post("/api/repos/create")
    async def create_repo(request: Request) -> JSONResponse:
        body = await request.json()
        kind = body.get("type") or "model"
        namespace = body.get("organization") or user_of(request) or ""
        repo_id, url = f"{namespace}/{body['name']}", _page(server, kind, f"{namespace}/{body['name']}")
        user = require_writer(request, namespace)
        if (kind, repo_id) in server.repos:
            return JSONResponse({"error": f"You already created this {kind} repo", "url": url}, 409)
        private = body.get("visibility") == "private" or bool(body.get("private"))
        repo = server.repos[kind, repo_id] = Repo(kind, repo_id, private, body.get("sdk"))
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES)
        repo.add_commit("main", {".gitattributes": Blob(attributes.encode(), False)}, "initial commit", "", user)
        return JSONResponse({"url": url, "name": repo_id, "id": repo_id})

    @app.delete("/api/repos/delete")
    async def delete_repo(request: Request) -> dict:
        body = await request.json()
        namespace = body.get("organization") or user_of(request) or ""
        repo = find(request, body.get("type") or "model", namespace, body["name"], write=True)
        del server.repos[repo.kind, repo.id]
        return {}

    @app.post("/api/validate-yaml")
    async def validate_yaml(request: Request) -> JSONResponse:
        content = (await request.json())["content"]
        match = re.match(r"\ufeff?---\r?\n(.*?)\r?\n---(\r?\n|$)", content, re.DOTALL)
        try:
            metadata = yaml.safe_load(match.group(1)) if match else None
        except yaml.YAMLError as error:
            return JSONResponse({"errors": [{"message": str(error)}], "warnings": []}, 400)
        warning = {"message": "empty or missing yaml metadata in repo card"}
        return JSONResponse({"errors": [], "warnings": [] if metadata else [warning]})

    # --- reading

    @app.get("/api/{kinds}/{namespace}/{name}")
    async def latest_info(request: Request, kinds: str, namespace: str, name: str) -> dict:
        return _info(find(request, kinds, namespace, name), "main", with_blobs="blobs" in request.query_params)

    @app.get("/api/{kinds}/{namespace}/{name}/revision/{revision}")
    async def info(request: Request, kinds: str, namespace: str, name: str, revision: str) -> dict:
        repo = find(request, kinds, namespace, name)
        return _info(repo, unquote(revision), with_blobs="blobs" in request.query_params)

    @app.get("/api/{kinds}/{namespace}/{name}/tree/{revision}")
    @app.get("/api/{kinds}/{namespace}/{name}/tree/{revision}/{path:path}")
    async def tree(request: Request, kinds: str, namespace: str, name: str, revision: str, path: str = "") -> list:
        repo = find(request, kinds, namespace, name)
        commit = repo.at(unquote(revision))
        flags = {name: request.query_params.get(name, "").lower() in ("true", "1") for name in ("recursive", "expand")}
        folder = unquote(path).strip("/")
        entries = _entries(repo, commit, expand=flags["expand"])
        inside = {p: entry for p, entry in entries.items() if not folder or p.startswith(folder + "/")}
        if folder and not inside:
            raise HttpError(404, f"{folder} does not exist on {revision!r}", code="EntryNotFound")
        depth = folder.count("/") + 1 if folder else 0
        return [entry for p, entry in inside.items() if flags["recursive"] or p.count("/") == depth]

    @app.post("/api/{kinds}/{namespace}/{name}/paths-info/{revision}")
    async def paths_info(request: Request, kinds: str, namespace: str, name: str, revision: str) -> list:
        repo = find(request, kinds, namespace, name)
        body = (await request.body()).decode()
        if request.headers.get("content-type", "").startswith("application/json"):
            form = json.loads(body)
            paths, expand = form["paths"], bool(form.get("expand"))
        else:
            form = parse_qs(body)
            paths, expand = form.get("paths", []), form.get("expand", [""])[0].lower() in ("true", "1")
        entries = _entries(repo, repo.at(unquote(revision)), expand=expand)
        return [entries[path.strip("/")] for path in paths if path.strip("/") in entries]

    @app.get("/api/{kinds}/{namespace}/{name}/refs")
    async def refs(request: Request, kinds: str, namespace: str, name: str) -> dict:
        repo = find(request, kinds, namespace, name)

        def listed(prefix: str, names: dict[str, str]) -> list[dict]:
            return [{"name": n, "ref": f"refs/{prefix}/{n}", "targetCommit": sha} for n, sha in names.items()]

        return {
            "branches": listed("heads", repo.branches),
            "tags": listed("tags", repo.tags),
            "converts": [],
            "pullRequests": [],
        }

    @app.get("/api/{kinds}/{namespace}/{name}/commits/{revision}")
    async def commits(request: Request, kinds: str, namespace: str, name: str, revision: str) -> list:
        repo = find(request, kinds, namespace, name)
        return [
            {"id": c.sha, "title": c.title, "message": c.message, "date": c.date, "authors": [{"user": c.author}]}
            for c in repo.history(repo.at(unquote(revision)))
        ]

    @app.get("/api/{kinds}/{namespace}/{name}/auth-check")
    async def auth_check(request: Request, kinds: str, namespace: str, name: str) -> dict:
        find(request, kinds, namespace, name)
        return {}

    @app.get("/api/{kinds}/{namespace}/{name}/auth-check/write")
    async def auth_check_write(request: Request, kinds: str, namespace: str, name: str) -> dict:
        find(request, kinds, namespace, name, write=True)
        return {}

    async def resolve(request: Request, kinds: str, namespace: str, name: str, revision: str, path: str) -> Response:
        commit = find(request, kinds, namespace, name).at(unquote(revision))
        blob = commit.files.get(unquote(path))
        headers = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
        if blob is None:
            raise HttpError(404, "Entry not found", code="EntryNotFound", headers=headers)
        headers["ETag"] = f'"{blob.etag}"'
        if blob.is_lfs:
            headers |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.content))}
        return _content(blob.content, headers, request.headers.get("range"))

    @app.api_route("/{namespace}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
    async def resolve_model(request: Request, namespace: str, name: str, revision: str, path: str) -> Response:
        return await resolve(request, "models", namespace, name, revision, path)

    @app.api_route("/{kinds}/{namespace}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
    async def resolve_other(request: Request, kinds: str, namespace: str, name: str, revision: str, path: str) -> Response:
        return await resolve(request, kinds, namespace, name, revision, path)

    # --- writing

    @app.put("/api/{kinds}/{namespace}/{name}/settings")
    async def settings(request: Request, kinds: str, namespace: str, name: str) -> dict:
        repo = find(request, kinds, namespace, name, write=True)
        body = await request.json()
        repo.private = body.get("visibility") == "private" or bool(body.get("private"))
        return {"private": repo.private}

    @app.post("/api/{kinds}/{namespace}/{name}/branch/{branch}")
    async def create_branch(request: Request, kinds: str, namespace: str, name: str, branch: str) -> dict:
        repo = find(request, kinds, namespace, name, write=True)
        if unquote(branch) in repo.branches:
            raise HttpError(409, "Reference already exists")
        start = (json.loads(await request.body() or b"{}")).get("startingPoint")
        repo.branches[unquote(branch)] = repo.at(start or "main").sha
        return {}

    @app.delete("/api/{kinds}/{namespace}/{name}/branch/{branch}")
    async def delete_branch(request: Request, kinds: str, namespace: str, name: str, branch: str) -> dict:
        repo = find(request, kinds, namespace, name, write=True)
        if unquote(branch) not in repo.branches or unquote(branch) == "main":
            raise HttpError(404, "No such branch", code="RevisionNotFound")
        del repo.branches[unquote(branch)]
        return {}

    @app.post("/api/{kinds}/{namespace}/{name}/tag/{revision}")
    async def create_tag(request: Request, kinds: str, namespace: str, name: str, revision: str) -> dict:
        repo = find(request, kinds, namespace, name, write=True)
        tag = (await request.json())["tag"]
        if tag in repo.tags:
            raise HttpError(409, "Tag already exists")
        repo.tags[tag] = repo.at(unquote(revision)).sha
        return {}

    @app.delete("/api/{kinds}/{namespace}/{name}/tag/{tag}")
    async def delete_tag(request: Request, kinds: str, namespace: str, name: str, tag: str) -> dict:
        repo = find(request, kinds, namespace, name, write=True)
        if repo.tags.pop(unquote(tag), None) is None:
            raise HttpError(404, "No such tag", code="RevisionNotFound")
        return {}

    @app.post("/api/{kinds}/{namespace}/{name}/preupload/{revision}")
    async def preupload(request: Request, kinds: str, namespace: str, name: str, revision: str) -> dict:
        repo = find(request, kinds, namespace, name, write=True)
        present = repo.at(unquote(revision)).files
        answers = []
        for file in (await request.json())["files"]:
            is_binary = b"\0" in base64.b64decode(file.get("sample", ""))
            is_lfs = file["path"].endswith(LFS_SUFFIXES) or file["size"] > LFS_SIZE or is_binary
            answer = {"path": file["path"], "uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False}
            if file["path"] in present:
                answer["oid"] = present[file["path"]].etag
            answers.append(answer)
        return {"files": answers}

    async def lfs_batch(request: Request, kinds: str, namespace: str, name: str) -> dict:
        find(request, kinds, namespace, name, write=True)
        objects = []
        for wanted in (await request.json())["objects"]:
            answer: dict[str, Any] = {"oid": wanted["oid"], "size": wanted["size"], "authenticated": True}
            if wanted["oid"] not in server.objects:
                server.keys.setdefault(wanted["oid"], secrets.token_hex())  # two files may share their content
                answer["actions"] = {
                    "upload": {"href": f"{server.endpoint}/storage/{wanted['oid']}?key={server.keys[wanted['oid']]}"},
                    "verify": {"href": f"{server.endpoint}/storage-verify"},
                }
            objects.append(answer)
        return {"transfer": "basic", "objects": objects}

    @app.post("/{namespace}/{name}.git/info/lfs/objects/batch")
    async def lfs_batch_model(request: Request, namespace: str, name: str) -> dict:
        return await lfs_batch(request, "models", namespace, name)

    @app.post("/{kinds}/{namespace}/{name}.git/info/lfs/objects/batch")
    async def lfs_batch_other(request: Request, kinds: str, namespace: str, name: str) -> dict:
        return await lfs_batch(request, kinds, namespace, name)

    @app.put("/storage/{oid}")
    async def store(request: Request, oid: str) -> Response:
        content = await request.body()
        if request.query_params.get("key") != server.keys.get(oid):
            raise HttpError(403, "The upload address is not valid")
        if hashlib.sha256(content).hexdigest() != oid:
            raise HttpError(400, "The content does not have the announced sha256")
        server.objects[oid] = content
        return Response()

    @app.post("/storage-verify")
    async def verify(request: Request) -> dict:
        body = await request.json()
        if len(server.objects.get(body["oid"], b"")) != body["size"]:
            raise HttpError(404, "The object has not been uploaded")
        return {}

    @app.post("/api/{kinds}/{namespace}/{name}/commit/{revision}")
    async def commit(request: Request, kinds: str, namespace: str, name: str, revision: str) -> dict:
        repo = find(request, kinds, namespace, name, write=True)
        branch = unquote(revision)
        if "create_pr" in request.query_params:
            raise HttpError(501, "This Hub has no pull requests")
        if branch not in repo.branches:
            raise HttpError(404, f"Invalid rev id: {branch}", code="RevisionNotFound")
        lines = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
        header = next((line["value"] for line in lines if line["key"] == "header"), {})
        head = repo.at(branch)
        if not head.sha.startswith(header.get("parentCommit") or ""):
            raise HttpError(412, "The branch has moved on since parentCommit")
        files = dict(head.files)
        for line in lines:
            _apply(line["key"], line["value"], files, server.objects)
        new = repo.add_commit(branch, files, header.get("summary", ""), header.get("description", ""), repo.id.split("/")[0])
        url = f"{_page(server, repo.kind, repo.id)}/commit/{new.sha}"
        return {"success": True, "commitOid": new.sha, "commitUrl": url, "hookOutput": ""}

    return app


def _page(server: HubServer, kind: str, repo_id: str) -> str:
    return f"{server.endpoint}/{'' if kind == 'model' else kind + 's/'}{repo_id}"


def _apply(key: str, value: dict, files: dict[str, Blob], objects: dict[str, bytes]) -> None:
    """Carry out one line of a commit on a copy of the tree."""
    path = value.get("path", "")
    if key != "header" and (not path or path.startswith("/") or ".." in path.split("/")):
        raise HttpError(400, f"Invalid path: {path!r}")
    if key == "file":
        files[path] = Blob(base64.b64decode(value["content"]), is_lfs=False)
    elif key == "lfsFile":
        if value["oid"] not in objects:
            raise HttpError(400, f"LFS object {value['oid']} of {path} has not been uploaded")
        files[path] = Blob(objects[value["oid"]], is_lfs=True)
    elif key == "deletedFile":
        if files.pop(path, None) is None:
            raise HttpError(404, f"A file with this name doesn't exist: {path}", code="EntryNotFound")
    elif key == "deletedFolder":
        for inside in [name for name in files if name.startswith(path.rstrip("/") + "/")]:
            del files[inside]
    elif key != "header":
        raise HttpError(400, f"Unknown operation: {key}")


def _entries(repo: Repo, commit: Commit, *, expand: bool) -> dict[str, dict]:
    """Files and folders by path, as `tree` and `paths-info` describe them."""
    entries: dict[str, dict] = {}
    for path, blob in sorted(commit.files.items()):
        size = len(blob.content)
        entry: dict[str, Any] = {"type": "file", "oid": blob.oid, "size": size, "path": path}
        if blob.is_lfs:
            entry["lfs"] = {"oid": blob.sha256, "size": size, "pointerSize": blob.pointer_size}
        if expand:
            changed = repo.commits[blob.commit]
            entry["lastCommit"] = {"id": changed.sha, "title": changed.title, "date": changed.date}
        parts = path.split("/")
        for length in range(1, len(parts)):
            folder = "/".join(parts[:length])
            digest = hashlib.sha1(f"{commit.sha}{folder}".encode()).hexdigest()
            entries.setdefault(folder, {"type": "directory", "oid": digest, "size": 0, "path": folder})
            if expand and entry["lastCommit"]["date"] >= entries[folder].get("lastCommit", {}).get("date", ""):
                entries[folder]["lastCommit"] = copy.copy(entry["lastCommit"])
        entries[path] = entry
    return entries


def _info(repo: Repo, revision: str, *, with_blobs: bool) -> dict:
    """What model_info, dataset_info and space_info read."""
    commit = repo.at(revision)
    siblings = []
    for path, blob in sorted(commit.files.items()):
        sibling: dict[str, Any] = {"rfilename": path}
        if with_blobs:
            sibling |= {"size": len(blob.content), "blobId": blob.oid}
            if blob.is_lfs:
                sibling["lfs"] = {"sha256": blob.sha256, "size": len(blob.content), "pointerSize": blob.pointer_size}
        siblings.append(sibling)
    readme = commit.files["README.md"].content.decode(errors="replace") if "README.md" in commit.files else ""
    match = re.match(r"---\r?\n(.*?)\r?\n---", readme, re.DOTALL)
    card = (yaml.safe_load(match.group(1)) if match else None) or {}
    first = list(repo.history(commit))[-1]
    return {
        "id": repo.id,
        "author": repo.id.split("/")[0],
        "sha": commit.sha,
        "lastModified": commit.date,
        "createdAt": first.date,
        "private": repo.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": card.get("tags") or [],
        "cardData": card,
        "siblings": siblings,
        **({"modelId": repo.id} if repo.kind == "model" else {}),
        **({"sdk": repo.sdk} if repo.kind == "space" else {}),
        **{key: card[key] for key in ("library_name", "pipeline_tag", "model-index") if key in card},
    }


def _content(content: bytes, headers: dict[str, str], wanted: str | None) -> Response:
    """The whole content, or the one range of bytes that was asked for."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
    if match is None or match.groups() == ("", ""):
        return Response(content, media_type="application/octet-stream", headers=headers)
    first, last = match.groups()
    start = int(first) if first else max(0, len(content) - int(last))
    stop = min(int(last) + 1, len(content)) if first and last else len(content)
    if start >= len(content):
        raise HttpError(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{len(content)}"})
    headers = {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
    return Response(content[start:stop], 206, media_type="application/octet-stream", headers=headers)


@contextlib.contextmanager
def impatience():
    """Clients that give a silent Hub up at once."""
    import pytest  # the server itself runs without

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.3)
        patched.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
        patched.setattr("huggingface_hub.file_download._ETAG_RETRY_TIMEOUT", 0.3)
        patched.setattr("pix2pix.downloads.STALL", 0.3)
        yield


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1, 1 to 65535; 0 takes a free one")
    parser.add_argument("--user", default="artist", help="the user whom the printed token belongs to")
    args = parser.parse_args(argv)
    try:
        server = HubServer(port=args.port, user=args.user)
    except (OSError, OverflowError) as error:
        parser.error(f"--port {args.port} cannot be listened on ({error}); choose another")
    with server:
        print("\n".join(f"export {name}={value}" for name, value in server.environment().items()), flush=True)
        print("# serving until interrupted (Ctrl-C); what was pushed is then forgotten", flush=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
