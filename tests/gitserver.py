"""Repositories made on the spot, and a web server on loopback that serves them as a real one does."""

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

MOMENT = 1_700_000_000


def git(*args: str, cwd: Path, stdin: str = "") -> str:
    names = {f"GIT_{who}_{what}": "t@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    dates = {f"GIT_{who}_DATE": f"{MOMENT} +0000" for who in ("AUTHOR", "COMMITTER")}
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        **names,
        **dates,
    }
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *args], cwd=cwd, env=environment, input=stdin, text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@dataclass
class Origin:
    """A repository that others fetch from."""

    path: Path

    def commit(
        self, files: Mapping[str, str | bytes | None] | None = None, *, modes: Mapping[str, int] | None = None
    ) -> str:
        """Write files (`->x` is a link to x, None removes), commit, and give the commit's name."""
        for name, content in (files or {}).items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink()
            elif isinstance(content, str) and content.startswith("->"):
                path.symlink_to(content[2:])
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            if modes and name in modes:
                path.chmod(modes[name])
        git("add", "-A", cwd=self.path)
        git("commit", "-q", "--allow-empty", "-m", "a change", cwd=self.path)
        return git("rev-parse", "HEAD", cwd=self.path)

    def add_submodule(self, path: str, url: str, sha: str) -> str:
        """As .gitmodules and the tree say it; nothing is cloned."""
        told = self.path / ".gitmodules"
        before = told.read_text() if told.exists() else ""
        told.write_text(f'{before}[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n')
        git("add", ".gitmodules", cwd=self.path)
        git("update-index", "--add", "--cacheinfo", f"160000,{sha},{path}", cwd=self.path)
        git("commit", "-q", "-m", "a submodule", cwd=self.path)
        return git("rev-parse", "HEAD", cwd=self.path)


@dataclass
class Hub:
    """A server of repositories, `http://127.0.0.1:…/name.git`, and of the other files beside them."""

    root: Path
    port: int = 0
    requests: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    token: str = ""
    version: bool = True  # whether the newer protocol is spoken, which gives any commit by its name
    dumb: bool = False
    modified: str = ""  # Last-Modified of files

    def create(self, name: str = "app") -> Origin:
        path = self.root / f"{name}.git"
        path.mkdir(parents=True)
        git("init", "-q", "-b", "main", cwd=path)
        return Origin(path)

    def url(self, name: str = "app", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{name}.git"

    def asked_for(self, what: str) -> int:
        return sum(what in request for request in self.requests)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        hub, parts = self.hub, urlsplit(self.path)
        hub.requests.append(f"{self.command} {self.path}")
        hub.authorizations.append(self.headers.get("Authorization"))
        for start, target in hub.redirects.items():
            if parts.path.startswith(start):
                self.send_response(302)
                self.send_header("Location", target + self.path.removeprefix(start))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        if hub.token and self.headers.get("Authorization") != hub.token:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="hub"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if hub.dumb or ".git/" not in parts.path:
            self._file(hub.root / parts.path.lstrip("/").replace(".git/", ".git/.git/", 1))
            return
        body = self._body()
        environment = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(hub.root), "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command, "PATH_INFO": parts.path.replace(".git/", ".git/.git/", 1),
            "QUERY_STRING": parts.query, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)), "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", "") if hub.version else "",
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
        }  # fmt: skip
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=False)
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.send_response(int(fields.pop("Status", "200 OK").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def _file(self, path: Path) -> None:
        found = path.read_bytes() if path.is_file() else None
        self.send_response(404 if found is None else 200)
        if self.hub.modified:
            self.send_header("Last-Modified", self.hub.modified)
        self.send_header("Content-Length", str(len(found or b"")))
        self.end_headers()
        self.wfile.write(found or b"")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(root: Path) -> Iterator[Hub]:
    """Serve the repositories below `root`."""
    hub = Hub(root)
    server = ThreadingHTTPServer(("", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
