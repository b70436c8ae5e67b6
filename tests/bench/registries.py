"""Registries beside each other under wrk: manifests, small and large blobs, tag lists, memory."""

import contextlib
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ACCEPT = "application/vnd.oci.image.manifest.v1+json"


@contextlib.contextmanager
def _serving(command: Sequence[str], home: Path, address: str) -> Iterator["subprocess.Popen[bytes]"]:
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://{address}/v2/", timeout=2).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def distribution(home: Path, address: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Docker's registry as Debian ships it (2.8)."""
    home.mkdir(parents=True)
    (home / "config.yml").write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {home}/data}}, delete: {{enabled: true}},"
        f" cache: {{blobdescriptor: inmemory}}}}\nhttp: {{addr: '{address}'}}\n"
    )
    with _serving(["docker-registry", "serve", str(home / "config.yml")], home, address) as process:
        yield process


@contextlib.contextmanager
def pybuild(home: Path, address: str) -> Iterator["subprocess.Popen[bytes]"]:
    home.mkdir(parents=True)
    command = [str(Path(sys.executable).with_name("pybuild")), "--root", str(home / "root"), "registry", "serve"]
    with _serving([*command, "--addr", address, "--quiet"], home, address) as process:
        yield process


def _request(method: str, url: str, body: bytes | None = None, kind: str = "application/octet-stream") -> str:
    request = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers.get("Location", "")


def _blob(base: str, content: bytes) -> str:
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    place = _request("POST", f"{base}/blobs/uploads/", b"")
    place = place if place.startswith("http") else base.partition("/v2/")[0] + place
    _request("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", content)
    return digest


def _wrk(url: str, connections: int, seconds: int) -> float:
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-H", f"Accept: {ACCEPT}", url]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+(\S+)", shown)
    if found is None or "Non-2xx" in shown:
        raise RuntimeError(f"wrk {url}: {shown}")
    return float(found[1])


def measure(put: Callable[[str, str, float, str], None], work: Path, runs: int, *, quick: bool) -> None:
    """G1 of the performance table. Both serve at once, and are asked in turn."""
    seconds, tags = (1, 200) if quick else (4, 10_000)
    small, big = os.urandom(4096), os.urandom(1 << 20) * 64
    with (
        pybuild(work / "g1-pybuild", "127.0.0.1:5071") as ours,
        distribution(work / "g1-distribution", "127.0.0.1:5072") as theirs,
    ):
        served = {"pybuild": ("127.0.0.1:5071", ours), "distribution 2.8": ("127.0.0.1:5072", theirs)}
        for name, (address, process) in served.items():
            put("G1 memory, idle", name, _pss(process.pid), "MiB")
            base = f"http://{address}/v2/bench"
            config, layer = _blob(base, b"{}"), _blob(base, small)
            _blob(base, big)
            manifest = json.dumps({
                "schemaVersion": 2, "mediaType": ACCEPT,
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
                "layers": [
                    {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": len(small)}
                ],
            }).encode()  # fmt: skip
            start = time.perf_counter()
            for number in range(tags):
                _request("PUT", f"{base}/manifests/v{number}", manifest, ACCEPT)
            put("G1 PUT manifest", name, tags / (time.perf_counter() - start), "1/s")
        for _ in range(runs):
            for name, (address, _) in served.items():
                base = f"http://{address}/v2/bench"
                put("G1 GET manifest by tag", name, _wrk(f"{base}/manifests/v1", 32, seconds), "1/s")
                put("G1 GET 4 KiB blob", name, _wrk(_blob_url(base, small), 32, seconds), "1/s")
                rate = _wrk(_blob_url(base, big), 4, seconds)
                put("G1 GET 64 MiB blob", name, rate * len(big) / 1e9, "GB/s")
                for label, query in (("all", ""), ("n=100", "?n=100")):
                    put(f"G1 tags, {label}", name, 1e3 * _median_get(f"{base}/tags/list{query}"), "ms")
        for name, (_, process) in served.items():
            put("G1 memory, after", name, _pss(process.pid), "MiB")


def _blob_url(base: str, content: bytes) -> str:
    return f"{base}/blobs/sha256:{hashlib.sha256(content).hexdigest()}"


def _median_get(url: str) -> float:
    took = []
    for _ in range(10):
        start = time.perf_counter()
        with urllib.request.urlopen(url, timeout=60) as answer:
            answer.read()
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def _pss(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0
