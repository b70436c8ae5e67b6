"""Dockerfiles whose steps pybuild and BuildKit must give the same cache keys, and what they are built from.

Everything is made here, to the byte: the context, and a base image whose /bin/sh is a program of some 200 bytes that
writes /made, whatever it is asked. So a cache that BuildKit once wrote for them stays true (cachedata/).
"""

import io
import json
import os
import struct
import tarfile
from pathlib import Path

from registry.model import Descriptor, Digest, Manifest, MediaType
from registry.storage import ContentStore

BASE = "base"  # the name of the image in FROM

CASES = {
    "plain": """\
FROM base
COPY f /f
RUN echo 1 && echo "é<>&" > /x
""",
    "variables": """\
ARG WHO=world
FROM base
ARG WHO
ARG MODE=1
ENV A=b PATH=/opt/bin:$PATH C="d <&>"
ENV A=again
WORKDIR /w/x
RUN echo $A $MODE
WORKDIR y
USER 7:8
WORKDIR z
RUN id
""",
    "users": """\
FROM base
USER someone
WORKDIR /home/someone
COPY --chown=someone:users f /a
COPY --chown=1 f /b
COPY --chown=0:5 --chmod=640 sub /c/
COPY --chmod=u=rwX,go=rX sub .
ADD --chown=someone x.txt .
RUN echo
""",
    "stages": """\
FROM scratch AS files
COPY sub /sub
COPY f x.txt /d/
FROM base AS made
RUN make
FROM base
COPY --from=files /sub /d /z/
COPY --from=files / /all
COPY --from=made /made /
RUN --mount=from=files,source=d,target=/d true
""",
    "patterns": """\
FROM base
COPY *.txt /txt/
COPY s*b /subs/
COPY sub/*/b /b/
COPY . /all
COPY --exclude=*.txt --exclude=sub/deep . /most
COPY --parents sub/./deep/b x.txt /parents/
COPY --parents **/b /every/
COPY link to /links/
COPY ["a b", "ü", "/odd/"]
RUN ls
""",
    "archives": """\
FROM base
ADD pack.tar /p/
ADD --unpack=false pack.tar /q/
ADD f sub /r/
RUN ls
""",
    "documents": """\
FROM base
COPY <<one <<two /doc/
hello
one
world
two
COPY --chmod=755 <<"three" f /more/
$raw
three
RUN <<E
echo 1
echo 2
E
RUN <<E
#!/bin/sh
echo script
E
RUN cat <<A <<B
1
A
2
B
""",
    "mounts": """\
FROM scratch AS files
COPY sub /
FROM base
RUN --mount=type=bind,source=sub,target=/mnt true
RUN --mount=type=bind,target=/mnt,rw true
RUN --mount=from=files,target=/b --mount=from=files,source=deep,target=/a true
RUN --mount=type=cache,target=/root/.cache --mount=type=tmpfs,target=/t,size=1m true
RUN --mount=type=cache,id=other,target=/c,sharing=locked true
RUN --mount=type=cache,target=/c,uid=5,gid=6,mode=0700 true
RUN --mount=type=cache,target=/c,from=files,source=deep true
RUN --mount=type=secret,id=s --mount=type=secret,id=s,env=S,target=/s,mode=0444,uid=3 true
RUN --mount=type=secret,id=s,env=T true
WORKDIR /w
RUN --mount=type=cache,target=rel true
""",
    "flags": """\
FROM base
SHELL ["/bin/sh", "-e", "-c"]
RUN --network=none echo
RUN --network=default ["/bin/sh", "x"]
CMD ["x"]
LABEL a=b
RUN last
""",
    "links": """\
FROM base
COPY --link f /f
COPY --link --chown=5:6 sub /sub/
RUN ls
COPY --link --chmod=600 x.txt /x
RUN end
""",
    "web": """\
FROM base
ADD http://127.0.0.1:{web}/f /web/
ADD --chmod=644 http://127.0.0.1:{web}/f f /web2/
RUN ls
""",
}

# BuildKit's layer gives /tmp another mode; ours does not, so BuildKit's is not taken.
DAMAGING = "damaging"
CASES_BY_NAME = CASES | {DAMAGING: "FROM base\nCOPY --link f /tmp/f\n"}


def shell() -> bytes:
    """An ELF program for x86-64 that writes /made and ends well."""
    words = b"/made\0"
    code = bytes.fromhex("b802000000488d3d00000000be41020000baa40100000f0589c7b801000000488d3500000000ba050000000f05")
    code += bytes.fromhex("b83c00000031ff0f05")
    code = code[:8] + struct.pack("<i", len(code) - 12) + code[12:]
    at = code.index(bytes.fromhex("488d35")) + 3
    code = code[:at] + struct.pack("<i", len(code) - at - 4) + code[at + 4 :]
    start, size = 0x400000, 64 + 56 + len(code) + len(words)
    head = b"\x7fELF\2\1\1".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, start + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, start, start, size, size, 0x1000) + code + words


def write_context(folder: Path) -> None:
    """The files that the cases take."""
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "to").mkdir()
    files = {
        "f": "1\n", "x.txt": "x\n", "y.txt": "y\n", "sub/a": "a\n", "sub/a.b": "ab\n", "sub/deep/b": "b\n", "empty": "",
        "a b": "space\n", "ü": "umlaut\n", "left-out": "nobody sees it\n", "to/file": "linked\n",
        ".dockerignore": "left-out\nDockerfile\n.dockerignore\n",
    }  # fmt: skip
    for name, text in files.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)
        os.utime(folder / name, (1_600_000_000, 1_600_000_000))  # a web server tells it
    for name in (".", "sub", "sub/deep", "to"):
        (folder / name).chmod(0o755)
    (folder / "y.txt").chmod(0o4750)
    (folder / "link").symlink_to("sub/a")
    (folder / "sub" / "gone").symlink_to("nowhere")
    with tarfile.open(folder / "pack.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo("packed")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"abc"))
    (folder / "pack.tar").chmod(0o644)


def put_base(store: ContentStore, repository: str = BASE) -> Digest:
    """The base image: the same bytes everywhere. Returns the manifest's digest."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, mode, data in (
            ("bin", 0o755, None), ("bin/sh", 0o755, shell()), ("etc", 0o755, None),
            ("etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\nsomeone:x:7:7::/:/bin/sh\n"),
            ("etc/group", 0o644, b"root:x:0:\nusers:x:8:\n"), ("root", 0o700, None), ("tmp", 0o1777, None),
        ):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.mode, entry.mtime = mode, 1_600_000_000
            if data is None:
                entry.type = tarfile.DIRTYPE
                archive.addfile(entry)
            else:
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    layer = content.getvalue()
    config = json.dumps(
        {
            "architecture": "amd64", "os": "linux", "created": "2020-09-13T12:26:40Z",
            "config": {"Env": ["PATH=/bin"]}, "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(layer))]},
            "history": [{"created": "2020-09-13T12:26:40Z", "created_by": "tests"}],
        }
    ).encode()  # fmt: skip
    manifest = Manifest(
        MediaType.OCI_MANIFEST,
        Descriptor(MediaType.OCI_CONFIG, store.put(config), len(config)),
        (Descriptor(MediaType.OCI_LAYER, store.put(layer), len(layer)),),
    )
    return store.put_manifest(repository, manifest.to_bytes(), MediaType.OCI_MANIFEST, tags=["latest"], adopt=True)
