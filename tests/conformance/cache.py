"""Caches between a real BuildKit and us, both ways: `make conformance-cache`, with --record to keep what it wrote.

    python -m tests.conformance.cache DIRECTORY [--record] [CASE …]

DIRECTORY has buildkitd and buildctl (tests/conformance/buildkit makes them). Each case of tests/interop/cache_cases.py
is built by BuildKit, which writes a cache to our registry, and then by us with that cache; and the other way round.
Every step must hit. Then one case goes through every other form of a cache.
Runs as root, on loopback, in name spaces of its own.
"""

import argparse
import base64
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from registry.model import Digest
from registry.storage import ContentStore
from runner.kernel import calls
from runner.kernel.netlink import Netlink, link_up
from tests.interop.cache_cases import BASE, CASES_BY_NAME, DAMAGING, put_base, write_context
from tests.interop.peers import Tool, background, serving, wait_until

_DATA = Path(__file__).parent.parent / "interop" / "cachedata"
_REGISTRY, _WEB = 5000, 8000


class Machine:
    """A BuildKit, a registry of ours, a web server, and us."""

    def __init__(self, programs: Path, work: Path) -> None:
        self.work, self.programs = work, programs
        self.context = work / "context"
        self.registry = f"127.0.0.1:{_REGISTRY}"
        self.context.mkdir()
        write_context(self.context)
        (work / "secret").write_text("hush")
        self._socket = f"unix://{work}/buildkitd.sock"
        self.buildctl = Tool((str(programs / "buildctl"), "--addr", self._socket))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        config = self.work / "buildkitd.toml"
        config.write_text(f'[registry."{self.registry}"]\n  http = true\n')
        python = [sys.executable, "-m"]
        with contextlib.ExitStack() as opened:
            registry = self.work / "registry"
            with ContentStore.open(registry) as store:
                put_base(store)
            opened.enter_context(
                serving(
                    [
                        *python, "pybuild.cli.main", "registry", "serve", "--addr", self.registry,
                        "--root", str(registry),
                    ],
                    self.work / "registry.log", f"http://{self.registry}/v2/",
                )
            )  # fmt: skip
            opened.enter_context(
                serving(
                    [*python, "http.server", str(_WEB), "--bind", "127.0.0.1", "--directory", str(self.context)],
                    self.work / "web.log", f"http://127.0.0.1:{_WEB}/f",
                )
            )  # fmt: skip
            daemon = [
                "unshare", "--mount", "--propagation", "private", str(self.programs / "buildkitd"),
                "--addr", self._socket, "--root", str(self.work / "buildkit"), "--config", str(config),
                "--oci-worker-snapshotter=native", "--oci-worker-net=host", "--containerd-worker=false",
                "--otel-socket-path", str(self.work / "otel.sock"), "--save-cache-debug",
                "--debugaddr", "127.0.0.1:6060",
            ]  # fmt: skip
            log = self.work / "buildkitd.log"
            opened.enter_context(background(daemon, log))
            wait_until(lambda: self.buildctl.run("debug", "workers").returncode == 0, "no buildkitd", log=log)
            yield

    def by_buildkit(self, text: str, *words: str) -> str:
        """Build, and give the progress."""
        folder = self.work / "dockerfile"
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text(text)
        done = self.buildctl.run(
            "build", "--progress=plain", "--frontend=dockerfile.v0", "--local", f"context={self.context}",
            "--local", f"dockerfile={folder}", "--opt", f"context:{BASE}=docker-image://{self.registry}/{BASE}:latest",
            "--secret", f"id=s,src={self.work}/secret", *words,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stderr)
        return done.stderr

    def by_us(self, text: str, root: Path, *words: str) -> str:
        dockerfile = self.work / "Dockerfile"
        dockerfile.write_text(text)
        done = subprocess.run(
            [
                sys.executable, "-m", "pybuild.cli.main", "build", "--progress=plain", "-f", str(dockerfile),
                "--build-context", f"{BASE}=docker-image://{self.registry}/{BASE}:latest",
                "--secret", f"id=s,src={self.work}/secret", "--network=default", *words, str(self.context),
            ],
            env={**os.environ, "PYBUILD_ROOT": str(root)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        return done.stdout + done.stderr


def missed(progress: str) -> list[str]:
    """The steps that were done, in a progress of either builder. (A download has the name of its ADD.)"""
    names = dict(re.findall(r"^#(\d+) (\[[^\]]*\d+/\d+\] .*)$", progress, re.MULTILINE))
    hit = {names.get(number) for number in re.findall(r"^#(\d+) CACHED", progress, re.MULTILINE)}
    return [name for name in dict.fromkeys(names.values()) if name not in hit]


def check(machine: Machine, name: str, text: str, *, record: bool) -> dict[str, list[str]]:
    """The steps that missed, each way."""
    found: dict[str, list[str]] = {}
    cache = f"type=registry,ref={machine.registry}/cache:"
    machine.buildctl("prune", "--all")
    machine.by_buildkit(text, "--export-cache", f"{cache}{name}-theirs,mode=max")
    if record:
        keep(machine, name)
    root = machine.work / f"root-{name}"
    found["here"] = missed(machine.by_us(text, root, "--cache-from", f"{cache}{name}-theirs"))
    if name == DAMAGING:
        found["here"] = [] if found["here"] else ["a layer of BuildKit's was taken that changes directories below it"]
    shutil.rmtree(root)
    machine.by_us(text, root, "--cache-to", f"{cache}{name}-ours,mode=max")
    machine.buildctl("prune", "--all")
    found["there"] = missed(machine.by_buildkit(text, "--import-cache", f"{cache}{name}-ours"))
    shutil.rmtree(root)
    return found


# How a cache is written by BuildKit, written by us, and read; {name} is where.
_FORMS = {
    "min": ("type=registry,ref={name}", "type=registry,ref={name}", "type=registry,ref={name}"),
    "zstd": (
        "type=registry,ref={name},mode=max,compression=zstd,force-compression=true",
        "type=registry,ref={name},mode=max,compression=zstd,force-compression=true",
        "type=registry,ref={name}",
    ),
    "index": (
        "type=registry,ref={name},mode=max,image-manifest=false",
        "type=registry,ref={name},mode=max",
        "type=registry,ref={name}",
    ),
    "folder": (
        "type=local,dest={folder},mode=max,tag=v1", "type=local,dest={folder},mode=max,tag=v1",
        "type=local,src={folder},tag=v1",
    ),
    "inline": ("type=inline", "type=inline", "type=registry,ref={name}"),
}  # fmt: skip
_FORM_CASE = """\
FROM scratch AS files
COPY sub /sub
FROM base
ENV A=b
COPY --from=files /sub /s
RUN one
WORKDIR /w
COPY x.txt .
RUN two
"""


# What a cache without other stages can't spare us, as we solve a stage before what copies from it.
_OTHER_STAGE = {"min": "[files 1/1] COPY sub /sub", "inline": "[files 1/1] COPY sub /sub"}


def check_form(machine: Machine, form: str) -> dict[str, list[str]]:
    theirs, ours, read = _FORMS[form]
    found: dict[str, list[str]] = {}
    root = machine.work / "root-form"

    def place(text: str, who: str) -> str:
        return text.format(name=f"{machine.registry}/forms:{form}-{who}", folder=machine.work / f"{form}-{who}")

    image = f"{machine.registry}/forms:{form}-{{}}"
    machine.buildctl("prune", "--all")
    output = ["--output", f"type=image,push=true,name={image.format('theirs')}"] if form == "inline" else []
    machine.by_buildkit(_FORM_CASE, "--export-cache", place(theirs, "theirs"), *output)
    steps = missed(machine.by_us(_FORM_CASE, root, "--cache-from", place(read, "theirs")))
    found["here"] = [step for step in steps if step != _OTHER_STAGE.get(form)]
    shutil.rmtree(root)
    words = ["-t", image.format("ours"), "--push"] if form == "inline" else []
    machine.by_us(_FORM_CASE, root, "--cache-to", place(ours, "ours"), *words)
    machine.buildctl("prune", "--all")
    found["there"] = missed(machine.by_buildkit(_FORM_CASE, "--import-cache", place(read, "ours")))
    shutil.rmtree(root)
    return found


def keep(machine: Machine, name: str) -> None:
    """What BuildKit wrote, with all layers but those of the base image."""

    def get(path: str) -> bytes:
        request = urllib.request.Request(f"http://{machine.registry}/v2/{path}", headers={"Accept": "*/*"})
        with urllib.request.urlopen(request) as answer:
            return bytes(answer.read())

    manifest = get(f"cache/manifests/{name}-theirs")
    parsed = json.loads(manifest)
    blobs = {str(Digest.of(manifest)): manifest}
    base = {layer["digest"] for layer in json.loads(get(f"{BASE}/manifests/latest"))["layers"]}
    for blob in (parsed["config"], *parsed["layers"]):
        if blob["digest"] not in base:
            blobs[blob["digest"]] = get(f"cache/blobs/{blob['digest']}")
    told = {digest: base64.b64encode(content).decode() for digest, content in sorted(blobs.items())}
    _DATA.mkdir(exist_ok=True)
    (_DATA / f"{name}.json").write_text(
        json.dumps({"manifest": str(Digest.of(manifest)), "blobs": told}, indent=1) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", type=Path)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("cases", nargs="*")
    asked = parser.parse_intermixed_args()
    cases: Mapping[str, str] = {
        name: CASES_BY_NAME[name].replace("{web}", str(_WEB))
        for name in CASES_BY_NAME
        if name in asked.cases or not asked.cases
    }
    calls.unshare(calls.CLONE_NEWNET)
    with Netlink() as netlink:
        netlink.run(link_up(socket.if_nametoindex("lo")))
    work = Path(tempfile.mkdtemp(prefix="pybuild-cache-", dir="/dev/shm"))
    wrong = 0
    try:
        machine = Machine(asked.programs.resolve(), work)
        with machine.running():
            todo = [(name, partial(check, machine, name, text, record=asked.record)) for name, text in cases.items()]
            todo += [
                (form, partial(check_form, machine, form)) for form in _FORMS if form in asked.cases or not asked.cases
            ]
            for name, do in todo:
                found = do()
                for way, steps in found.items():
                    told = "\n".join([f"{len(steps)} steps missed", *steps]) if steps else "as expected"
                    sys.stdout.write(f"{name:12} {way:6} {told}\n")
                    sys.stdout.flush()
                    wrong += len(steps)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
