"""Dockerfiles built by dockerd's BuildKit and by us: the same files, configuration and history.

All start from scratch with busybox and need no network. Debian's dockerd holds the BuildKit of 20.10: no heredocs.
"""

import hashlib
import json
import os
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.interop.peers import Tool

pytestmark = [pytest.mark.root, pytest.mark.net, pytest.mark.timeout(300)]

# Mount points and what lies above them: BuildKit of 20.10 left them behind, newer ones remove them as we do.
STUBS = {"dev", "proc", "sys", "etc", "etc/hosts", "etc/resolv.conf", "c"}
BASE = 'FROM scratch AS base\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\n'
PASSWD = BASE + "COPY passwd group /etc/\n"
CASES = {
    "config": PASSWD
    + 'ENV A=1 B="x y" C=$A\nENV legacy  two  words\nARG D=4\nLABEL l="a b" m=$D\nEXPOSE 80 53/udp 8000-8002\n'
    'VOLUME /data ["/x"]\nVOLUME ["/one", "/two"]\nSTOPSIGNAL SIGQUIT\nUSER app:users\nSHELL ["/bin/sh", "-x", "-c"]\n'
    'ONBUILD RUN true\nMAINTAINER me\nENTRYPOINT ["/bin/sh", "-c"]\nCMD echo "hi" \\\n  there\n',
    "commands": BASE + 'CMD ["one"]\nENTRYPOINT two $HOME\nFROM base\nENTRYPOINT ["e"]\nCMD ["a", "é\\t\\"q\\""]\n',
    "arguments": "ARG G=global\nARG H=${G}-more\n" + BASE
    + "ARG G\nARG H=stage\nARG E\nENV E=env\nARG TARGETARCH\n"
    "RUN echo $G $H $E $TARGETARCH > /out\nRUN env | grep -v SOURCE_DATE_EPOCH | sort > /env\n",
    "expansion": BASE
    + "ENV a=1 b= \nENV x1=${a:-no} x2=${b:-no} x3=${c:+yes} x4=\\$a x5='$a' x6=\"$a\"\nWORKDIR /w${a}\nCOPY d/f $a/\n",
    "workdir": PASSWD + "WORKDIR rel\nWORKDIR /abs/x\nUSER app\n"
    "WORKDIR deeper/still\nUSER 0\nWORKDIR ..\nRUN pwd > /out\n",
    "copies": PASSWD
    + "COPY d /d1\nCOPY d /d2/\nCOPY d/f /f1\nCOPY d/f /new/dir/\n"
    "COPY d/*.c d/sub /many/\nCOPY link /link\nCOPY --chown=app d /app\n"
    "COPY --chown=7:8 --chmod=640 d/a.c /owned\nCOPY . /all/\n"
    "COPY nothing* /none/\nADD d.tar /tar/\nADD d.tar.gz /tgz\n"
    "COPY d.tar /plain.tar\nCOPY d/f d/a.c /two/\nWORKDIR /here\nCOPY d/f .\nCOPY d/f ./renamed\nCOPY d/f ../up\n",
    "stages": BASE
    + "FROM base AS make\nRUN mkdir -p /o/sub && echo 1 > /o/f && ln -s f /o/l && ln /o/f /o/h\n"
    "RUN chown -R 5:6 /o && chmod 4755 /o/f\n"
    "FROM base\nCOPY --from=make /o /copied\nCOPY --from=0 /bin/busybox /b\nCOPY --from=make /o/l /followed\n"
    "COPY --from=make --chown=1:1 /o /mine\n",
    "deletions": BASE
    + "COPY d /d\nRUN rm /d/f && rm -r /d/sub && mkdir /d/sub && echo new > /d/sub/only\n"
    "RUN rm -rf /d && echo file > /d\n",
    "steps": PASSWD
    + "RUN id -u > /id && id -g >> /id && umask > /umask && touch /t && mkfifo /p && mknod /n c 1 3\n"
    "USER app\nRUN id -un > /tmp/id 2>/dev/null || echo no\nUSER 99:98\n"
    "RUN --mount=type=cache,target=/c id > /c/x; true\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def context(work: Path) -> Path:
    made = work / "context"
    (made / "d" / "sub").mkdir(parents=True)
    shutil.copy("/bin/busybox", made / "busybox")
    (made / "passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:123:45::/home/app:/bin/sh\n")
    (made / "group").write_text("root:x:0:\nusers:x:45:\nextra:x:46:app\n")
    for name in ("f", "a.c", "b.c", ".hidden", "sub/deep"):
        (made / "d" / name).write_text(name)
    (made / "d" / "f").chmod(0o4711)
    (made / "d" / "sub").chmod(0o1777)
    (made / "link").symlink_to("d/f")
    (made / "d" / "inner").symlink_to("a.c")
    os.chown(made / "d" / "a.c", 77, 78)
    for kind, name in (("w", "d.tar"), ("w:gz", "d.tar.gz")):
        with tarfile.open(made / name, kind) as archive:
            archive.add(made / "d", "packed")
    (made / ".dockerignore").write_text("**/b.c\n.dockerignore\nDockerfile*\n")
    return made


@pytest.fixture(params=list(CASES))
def built(request: pytest.FixtureRequest, work: Path, context: Path, pybuild: Tool, docker: Tool) -> dict[str, Path]:
    """Both images of a Dockerfile as docker archives."""
    name = str(request.param)
    file = work / f"Dockerfile.{name}"
    file.write_text(CASES[name])
    archives = {who: work / f"{name}.{who}.tar" for who in ("ours", "theirs")}
    pybuild("build", "--network", "none", "-t", f"{name}:1", "-f", str(file), str(context))
    pybuild("save", "-o", str(archives["ours"]), f"{name}:1")
    buildkit = Tool(docker.words, {**docker.env, "DOCKER_BUILDKIT": "1"})
    buildkit("build", "--network", "none", "-t", f"{name}:1", "-f", str(file), str(context))
    docker("save", "-o", str(archives["theirs"]), f"{name}:1")
    return archives


def config_of(archive: Path) -> dict[str, Any]:
    with tarfile.open(archive) as tar:
        manifest = json.load(tar.extractfile("manifest.json") or pytest.fail("no manifest"))
        found: dict[str, Any] = json.load(tar.extractfile(manifest[0]["Config"]) or pytest.fail("no config"))
        return found


def tree_of(archive: Path) -> dict[str, tuple[object, ...]]:
    """The flattened image: kind, mode, owner, link, content of each path."""
    found: dict[str, tuple[object, ...]] = {}
    with tarfile.open(archive) as tar:
        manifest = json.load(tar.extractfile("manifest.json") or pytest.fail("no manifest"))
        for name in manifest[0]["Layers"]:
            with tarfile.open(fileobj=tar.extractfile(name)) as layer:
                lay_over(found, layer)
    return found


def lay_over(tree: dict[str, tuple[object, ...]], layer: tarfile.TarFile) -> None:
    for member in layer:
        path = os.path.normpath(member.name)
        folder, name = os.path.split(path)
        if name == ".wh..wh..opq":
            forget(tree, folder, keep_itself=True)
        elif name.startswith(".wh."):
            forget(tree, os.path.join(folder, name.removeprefix(".wh.")))
    for member in layer:
        path = os.path.normpath(member.name)
        if os.path.basename(path).startswith(".wh.") or path == ".":
            continue
        if member.islnk():
            tree[path] = tree[os.path.normpath(member.linkname)]
            continue
        if not member.isdir():
            forget(tree, path)
        file = layer.extractfile(member) if member.isfile() else None
        digest = hashlib.sha256(file.read()).hexdigest()[:12] if file else ""
        tree[path] = (member.type, oct(member.mode & 0o7777), member.uid, member.gid, member.linkname, digest)


def forget(tree: dict[str, tuple[object, ...]], path: str, *, keep_itself: bool = False) -> None:
    for old in [old for old in tree if old.startswith(f"{path}/") or (old == path and not keep_itself)]:
        del tree[old]


def test_the_same_image(built: dict[str, Path]) -> None:
    ours, theirs = tree_of(built["ours"]), tree_of(built["theirs"])
    mine, docks = config_of(built["ours"]), config_of(built["theirs"])
    different = [
        f"{path}: ours {ours.get(path)}, BuildKit's {theirs.get(path)}"
        for path in sorted({*ours, *theirs})
        if ours.get(path) != theirs.get(path) and path not in STUBS
    ]
    assert different == []
    assert told(mine["config"]) == told(docks["config"])
    assert mine.get("author") == docks.get("author")
    assert history(mine) == history(docks)


def told(config: dict[str, Any]) -> dict[str, Any]:
    """What a config says; what is empty, and what BuildKit said otherwise in 20.10, left out."""
    silent = {"Hostname", "Image", "ArgsEscaped"}
    return {key: value for key, value in config.items() if value not in (None, "", False, [], {}) and key not in silent}


def history(config: dict[str, Any]) -> list[tuple[str, bool]]:
    """As BuildKit of 20.10 wrote it: ports as a sorted Go map, no flags of copies, no value of an inherited ARG."""
    texts = [re.sub(r"^EXPOSE (?:map)?\[(.*)\]", ports, step.get("created_by", "")) for step in config["history"]]
    texts = [re.sub(r"^(COPY|ADD) (?:--\S+ )*", r"\1 ", text) for text in texts]
    texts = [re.sub(r"^(ARG \w+)=.*", r"\1", text) for text in texts]
    return [(text, step.get("empty_layer", False)) for text, step in zip(texts, config["history"], strict=True)]


def ports(found: re.Match[str]) -> str:
    return "EXPOSE " + " ".join(sorted(port.removesuffix(":{}") for port in found[1].split()))
