"""What is built, pushed and run: contexts from fixed seeds, so that every run and every peer gets the same bytes."""

import random
import shutil
import struct
from pathlib import Path

_BLOCK = 1 << 16


def _words(seed: int = 0) -> list[bytes]:
    rng = random.Random(seed)
    return [bytes(rng.choices(b"etaoinshrdlucmfw", k=2 + index % 9)) for index in range(3000)]


def _text(rng: random.Random, words: list[bytes], size: int) -> bytes:
    return b" ".join(rng.choices(words, k=size // 4))[:size].ljust(size, b".")


def source_tree(into: Path, count: int) -> None:
    """`count` text files of about 3 KB (log-normal), 25 a folder: the look of an installed package tree."""
    rng = random.Random(1)
    pool = _text(rng, _words(), 1 << 20)
    for index in range(count):
        folder = into / f"package_{index // 25:04d}"
        if index % 25 == 0:
            folder.mkdir(parents=True)
        size = max(16, min(200_000, int(rng.lognormvariate(0, 1.1) * 3000)))
        start = rng.randrange(len(pool) - size)
        (folder / f"module_{index:05d}.py").write_bytes(b"# %d\n" % index + pool[start : start + size])


def empty(context: Path, dockerfile: str) -> Path:
    """A new context with nothing but a Dockerfile."""
    context.mkdir(parents=True)
    (context / "Dockerfile").write_text(dockerfile)
    return context


def mixed_file(path: Path, size: int, seed: int = 7) -> None:
    """Text, noise, packed records and zeros, 4:3:2:1, in blocks that repeat further apart than a window of zstd -3."""
    rng, words = random.Random(seed), _words()
    pool = []
    for index in range(1024):
        kind = index % 10
        if kind < 4:
            pool.append(_text(rng, words, _BLOCK))
        elif kind < 7:
            pool.append(rng.randbytes(_BLOCK))
        elif kind < 9:
            rows = (
                struct.pack("<IIHHI", index * 4096 + row, rng.randrange(1 << 16), row & 255, 7, 0)
                for row in range(4096)
            )
            pool.append(b"".join(rows))
        else:
            pool.append(bytes(_BLOCK))
    with path.open("wb") as out:
        for start in range(0, size // _BLOCK, len(pool)):
            rng.shuffle(pool)
            out.writelines(pool[: size // _BLOCK - start])


def busybox(into: Path) -> None:
    """A base image's context: static busybox and its links."""
    into.mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", into / "busybox")
    (into / "Dockerfile").write_text(
        "FROM scratch\nCOPY busybox /bin/busybox\n"
        'RUN ["/bin/busybox", "sh", "-c", "/bin/busybox --install -s /bin && mkdir -p /tmp /srv"]\nCMD ["sh"]\n'
    )


def prepare(top: Path, *, files: int, big: int) -> dict[str, Path]:
    """Make all contexts below `top`; their directories by name. Sizes: number of files, bytes of the large file."""
    head = "ARG BASE\nFROM ${BASE}\n"
    made = "for d in $(seq 0 199); do mkdir -p /data/$d; for f in $(seq 0 99); do echo $d $f > /data/$d/$f; done; done"
    texts = {
        "small": head + 'COPY hello.txt /srv/\nRUN echo hi > /srv/x\nENV A=1\nWORKDIR /srv\nCMD ["cat", "x"]\n',
        "files": head + "COPY site /srv/site\n" + "".join(f"RUN true {step}\n" for step in range(5)),
        "stages": "ARG BASE\n"
        + "".join(f"FROM ${{BASE}} AS s{n}\nRUN sleep 2 && echo {n} > /out{n}\n" for n in range(4))
        + "FROM ${BASE}\n"
        + "".join(f"COPY --from=s{n} /out{n} /\n" for n in range(4)),
        "made": head + f"RUN {made}\n",
        "one-run": head + "RUN true 0\n",
        "many-runs": head + "".join(f"RUN true {step}\n" for step in range(21)),
        "big": "FROM scratch\nCOPY big.bin /big.bin\n",
        "large": head + "".join(f"COPY part{n} /part{n}\n" for n in range(4)),
        "many": head + "COPY site /srv/site\n",
    }
    found = {name: empty(top / name, text) for name, text in texts.items()}
    (found["small"] / "hello.txt").write_text("hello\n")
    source_tree(found["files"] / "site", files)
    source_tree(found["many"] / "site", 3 * files)
    mixed_file(found["big"] / "big.bin", big)
    for number in range(4):
        mixed_file(found["large"] / f"part{number}", big // 4, seed=number)
    return found
