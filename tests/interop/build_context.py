"""The build context that all cases share: one of everything that a COPY may meet. Times are fixed and all different."""

import io
import os
import shutil
import stat
import struct
import tarfile
from itertools import count
from pathlib import Path

from tests.interop import build_cases
from tests.interop.peers import Tool

OLD = 1_000_000_000  # seconds since 1970; what was made by a build is newer
LONG = "n" * 200
# cap_net_raw=ep, revision 2 of the xattr (capability.h)
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)

FILES = {
    "a.txt": (0o644, "a\n"), "b.txt": (0o600, "b\n"), "c.sh": (0o755, "#!/bin/sh\necho c\n"), ".dot": (0o644, "dot\n"),
    "empty": (0o644, ""), "with space.txt": (0o644, "space\n"), "ünïcode-文.txt": (0o644, "unicode\n"),
    f"long/{LONG}": (0o644, "long\n"), "brackets[1].txt": (0o644, "brackets\n"), "back\\slash": (0o644, "slash\n"),
    "dir/x": (0o640, "x\n"), "dir/.hidden": (0o644, "hidden\n"), "dir/sub/y": (0o604, "y\n"),
    "dir/sub/deep/z": (0o444, "z\n"), "other/x": (0o644, "other x\n"), "other/sub/new": (0o644, "new\n"),
    "hard/one": (0o644, "hard\n"), "hard/sub/four": (0o644, "four\n"),
    "modes/setuid": (0o4755, "s\n"), "modes/setgid": (0o2755, "s\n"), "modes/none": (0o000, "none\n"),
    "modes/all": (0o7777, "all\n"), "modes/sticky/f": (0o1644, "f\n"), "modes/setgid-dir/f": (0o644, "f\n"),
    "caps/cap": (0o755, "cap\n"), "caps/sub/cap": (0o755, "cap\n"), "caps/user": (0o644, "user\n"),
    "owned/f": (0o644, "f\n"), "glob/f1.txt": (0o644, "1\n"), "glob/f2.txt": (0o644, "2\n"),
    "glob/f10.txt": (0o644, "10\n"), "glob/fa.log": (0o644, "a\n"), "glob/.f3.txt": (0o644, "3\n"),
    "glob/d1/f1.txt": (0o644, "d1\n"), "glob/d2/f1.txt": (0o644, "d2\n"), "glob/-f.txt": (0o644, "-\n"),
    "conflict/a/x": (0o644, "x\n"), "conflict/b": (0o644, "b\n"), "tree/keep": (0o644, "keep\n"),
    "tree/node_modules/big/file": (0o644, "big\n"), "tree/src/main.c": (0o644, "main\n"),
    "tree/src/main.o": (0o644, "object\n"), "tree/src/lib/lib.c": (0o644, "lib\n"),
    "tree/src/lib/lib.o": (0o644, "o\n"),
    "tree/README.md": (0o644, "readme\n"), "tree/docs/README.md": (0o644, "docs\n"), "tree/docs/a.md": (0o644, "a\n"),
    "tar/gzip-of-text.gz": (0o644, ""), "tar/text.tar": (0o644, "no archive\n"), "tar/empty.tar": (0o644, ""),
}  # fmt: skip
DIRECTORIES = {
    "dir": 0o750, "dir/sub": 0o700, "dir/sub/deep": 0o711, "dir/empty": 0o755, "other": 0o705, "other/sub": 0o775,
    "modes/sticky": 0o1777, "modes/setgid-dir": 0o2755, "owned": 0o711, "void": 0o700,
}  # fmt: skip
LINKS = {
    "link-to-file": "a.txt", "link-to-dir": "dir", "link-absolute": "/a.txt", "link-out": "../../a.txt",
    "link-to-link": "link-to-file", "dangling": "nowhere", "dir/link": "x", "dir/up": "../a.txt", "dir/bad": "nowhere",
    "dir/sub/abs": "/etc/passwd", "conflict/c": "b", "glob/f9.txt": "f1.txt",
}  # fmt: skip


def make_context(root: Path) -> None:
    for path, (mode, text) in FILES.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
    for path, mode in DIRECTORIES.items():
        (root / path).mkdir(exist_ok=True)
        (root / path).chmod(mode)
    for path, target in LINKS.items():
        (root / path).symlink_to(target)
    for name in ("two", "sub/three"):
        os.link(root / "hard/one", root / "hard" / name)
    os.chown(root / "owned", 1234, 5678)
    os.chown(root / "owned/f", 1234, 5678)
    for name in ("caps/cap", "caps/sub/cap"):
        os.setxattr(root / name, "security.capability", CAPABILITY)
    os.setxattr(root / "caps/user", "user.note", b"hello")
    _make_archives(root / "tar")
    set_times(root)


def build_bases(folder: Path, pybuild: Tool) -> None:
    """The images that cases stand on, into the store of `pybuild`."""
    folder.mkdir()
    shutil.copy("/bin/busybox", folder / "busybox")
    for name, mode in {"etc": 0o755, "dev": 0o755, "proc": 0o755, "sys": 0o755, "tmp": 0o1777}.items():
        (folder / "root" / name).mkdir(parents=True)
        (folder / "root" / name).chmod(mode)
    files = {"passwd": build_cases.PASSWD, "group": build_cases.GROUP, "hosts": "", "resolv.conf": ""}
    for name, text in files.items():
        (folder / "root" / "etc" / name).write_text(text)
    for name in build_cases.BASES:
        file = build_cases.FOLDER / f"{name}.base"
        pybuild("build", "--network=none", "-t", name, "-f", str(file), str(folder))


def set_times(root: Path) -> None:
    """Give everything its own old time."""
    seconds = count(OLD)
    everything = sorted(root.rglob("*"), key=lambda path: (-len(path.parts), str(path)))
    for path in (*everything, root):
        moment = next(seconds)
        os.utime(path, (moment, moment), follow_symlinks=False)


def _make_archives(folder: Path) -> None:
    import bz2
    import gzip
    import lzma

    plain = make_archive()
    (folder / "plain.tar").write_bytes(plain)
    (folder / "packed.gz").write_bytes(gzip.compress(plain, mtime=0))
    (folder / "packed.tar.bz2").write_bytes(bz2.compress(plain))
    (folder / "packed.bin").write_bytes(lzma.compress(plain))
    (folder / "gzip-of-text.gz").write_bytes(gzip.compress(b"no archive\n", mtime=0))


def make_archive() -> bytes:
    """Owners, links of both kinds, a device, odd modes, names, times; the mode that its root has must go nowhere."""
    content = io.BytesIO()
    seconds = count(OLD - 1000)
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, data: bytes = b"", **more: object) -> None:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.size = kind, mode, len(data)
            member.uid, member.gid, member.mtime = 1000, 1001, next(seconds)
            for key, value in more.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(data))

        add("./", tarfile.DIRTYPE, 0o700)
        add("./t/", tarfile.DIRTYPE, 0o750)
        add("./t/file", data=b"file\n")
        add("./t/hard", tarfile.LNKTYPE, linkname="./t/file", mtime=next(seconds) - 1)
        add("./t/soft", tarfile.SYMTYPE, 0o777, linkname="file")
        add("./t/suid", mode=stat.S_ISUID | 0o755, data=b"suid\n", uid=0, gid=0)
        add("./t/fifo", tarfile.FIFOTYPE, 0o600)
        add("./t/device", tarfile.CHRTYPE, 0o666, devmajor=1, devminor=3)
        add("deep/without/parents", data=b"deep\n")
        add("./t/" + "long" * 40, data=b"long\n")
        add("./t/文", data=b"unicode\n")
        add("./t/cap", mode=0o755, data=b"cap\n", pax_headers={
            "SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape")})  # fmt: skip
    return content.getvalue()
