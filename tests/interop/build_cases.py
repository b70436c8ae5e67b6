"""The cases in dockerfiles/, and what is odd about some of them. References are to BuildKit's sources of today."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).with_name("dockerfiles")
BASES = ("base", "rich", "trigger")  # each may stand on the one before
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\nweb:x:33:33:web:/:/bin/sh\n"
GROUP = "root:x:0:\napps:x:1001:\nweb:x:33:app\nstaff:x:50:app\n"


@dataclass(frozen=True)
class Odd:
    """What is odd about a case.

    Args:
        args: more words for both command lines.
        fails: the build must fail with both; our words for it, as a regular expression.
        differ: what must differ (patterns like "tree etc/*", "settings Env", "history 3"), and why ours is right.
    """

    args: tuple[str, ...] = ()
    fails: str = ""
    differ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    name: str
    odd: Odd

    @property
    def dockerfile(self) -> Path:
        return FOLDER / f"{self.name}.Dockerfile"

    @property
    def older(self) -> Path | None:
        """The same for dockerd 20.10, if it does not know the words."""
        file = FOLDER / f"{self.name}.older"
        return file if file.exists() else None

    @property
    def ignore(self) -> Path | None:
        file = FOLDER / f"{self.name}.dockerignore"
        return file if file.exists() else None


def left_behind(*paths: str) -> dict[str, str]:
    return {
        f"tree {path}": "mount points stay in BuildKit's layers: 20.10's all, today's those of /dev, /proc and /sys"
        for path in paths
    }


CAPABILITIES = (
    "BuildKit loses capabilities of context files: it sets them before the owner, and chown(2) clears them "
    "(fsutil diskwriter_unix.go)"
)
XATTR = "BuildKit's layers have security.capability and no other attribute; ours have user.* too"
GROUPS = "CVE-2022-36109: the primary group is among the supplementary ones (executor/oci/user.go)"
WALK = "left-out directories were not searched for exceptions with wildcards; now they are (fsutil filter.go)"
ALL_XATTRS = {"tree all/caps/*cap": CAPABILITIES, "tree all/caps/user": XATTR}

ODD = {
    "run-environment": Odd(
        args=("--build-arg", "SECOND=given", "--build-arg", "UNDECLARED=x"), differ={"tree tmp/id": GROUPS}
    ),
    "run-sandbox": Odd(differ={"tree Groups": GROUPS}),
    "run-leaves-no-mount-points": Odd(differ=left_behind("dev", "etc", "proc", "sys")),
    "run-files-with-capabilities": Odd(
        differ={"tree caps/link": CAPABILITIES, "tree caps/sub/cap": CAPABILITIES, "tree caps/user": XATTR}
    ),
    "run-user-forms": Odd(differ={"tree tmp/[1-8]": GROUPS}),
    "run-unknown-user-fails": Odd(fails="nobody-knows"),
    "run-failure-fails": Odd(fails="exit code: 7"),
    "run-bind-mounts": Odd(differ=left_behind("ctx", "m", "m/deep", "m/deep/er", "rw", "w/rel")),
    "run-cache-and-tmpfs": Odd(differ=left_behind("cache", "other", "other/place", "seeded", "t")),
    "run-secrets": Odd(
        args=("--secret", "id=one,src=SECRET"), differ=left_behind("etc/deep", "run", "run/secrets", "run-list")
    ),
    "run-secret-in-the-environment": Odd(args=("--secret", "id=one,src=SECRET")),
    "run-required-secret-fails": Odd(fails="none"),
    "user-without-passwd": Odd(differ=left_behind("dev", "etc", "proc", "sys")),
    "user-without-a-name-fails": Odd(
        fails="invalid user",
        differ={"refusal": "for BuildKit no name is root; part of a name must never become root (CVE-2026-30892)"},
    ),
    "cmd-json-with-more-behind": Odd(
        differ={
            "settings Cmd": "what is not JSON to its end is a line for the shell (parser/line_parsers.go, parseJSON)",
            "history 3": "what is not JSON to its end is a line for the shell (parser/line_parsers.go, parseJSON)",
        }
    ),
    "expansion-required-fails": Odd(fails="must be set"),
    "arg-scopes": Odd(args=("--build-arg", "NODEFAULT=given")),
    "arg-and-env-order": Odd(
        args=("--build-arg", "B=built"),
        differ={"history 2[35]": "an ARG declared twice was told twice; now once (convert.go, runCommandString)"},
    ),
    "arg-predefined": Odd(
        args=tuple(f"--build-arg={text}" for text in ("HTTP_PROXY=http://proxy", "no_proxy=none", "FTP_PROXY=ftp"))
    ),
    "arg-many-in-a-line": Odd(args=("--build-arg", "C=3")),
    "stage-inherits-config": Odd(differ={"tree tmp/id": GROUPS}),
    "stage-inherits-arguments": Odd(
        differ={"history 5": "arguments of the stage below were not told with a RUN; now they are (convert.go, init)"}
    ),
    "target-stage": Odd(args=("--target", "one")),
    "label-forms": Odd(args=("--label", "cli=1", "--label", "c=from the command line")),
    "healthcheck-start-interval": Odd(
        differ={"settings Healthcheck": "--start-interval is newer than 20.10; .older leaves it out"}
    ),
    "workdir-over-a-file-fails": Odd(fails="/d/one"),
    "onbuild-copies-from-a-stage": Odd(differ=left_behind("rich")),
    "onbuild-of-onbuild-fails": Odd(fails="(?i)onbuild"),
    "copy-directory": Odd(differ=ALL_XATTRS),
    "copy-dangling-link-fails": Odd(fails="dangling|nowhere"),
    "copy-missing-fails": Odd(fails="missing"),
    "copy-glob-below-nothing-fails": Odd(fails='"/missing" not found'),
    "copy-glob-below-nothing-in-a-stage-fails": Odd(fails='"/d/missing" not found'),
    "copy-glob-below-an-ignored-directory-fails": Odd(fails="left out by"),
    "copy-glob-below-an-ignored-link-fails": Odd(fails="left out by"),
    "copy-missing-from-stage-fails": Odd(fails="nope"),
    "copy-capabilities": Odd(differ={"tree caps/cap": CAPABILITIES, "tree owned": CAPABILITIES}),
    "copy-chown": Odd(
        differ={"tree 8": "a colon with nothing behind it was the group root; now it is nothing (fileop.go, WithUser)"}
    ),
    "copy-user-xattr": Odd(differ={"tree user": XATTR}),
    "copy-chmod": Odd(
        differ={
            "tree 2": "owner first, then mode: the set-id bits stay (fsutil copy_linux.go)",
            "tree [36]": "directories that the copy makes have the mode too (fsutil copy.go, MkdirAll)",
            "tree deep*": "directories that the copy makes have the mode too (fsutil copy.go, MkdirAll)",
            "tree 5*": "the mode replaces all bits (fsutil copy_linux.go)",
        }
    ),
    "copy-below-a-set-gid-directory": Odd(
        differ={"tree sg/five*": "directories that the copy makes have the mode too (fsutil copy.go, MkdirAll)"}
    ),
    "copy-from-keeps-owners": Odd(
        differ={"tree k/[cp]": "devices and pipes are copied as what they are (fsutil copy.go, copyDevice)"}
    ),
    "copy-dir-over-file-fails": Odd(fails="non-directory"),
    "copy-file-over-dir-fails": Odd(fails="directory"),
    "copy-from-a-variable-fails": Odd(fails="variables"),
    "copy-dir-over-link-fails": Odd(fails="non-directory"),
    "copy-chown-name-on-scratch-fails": Odd(fails="app"),
    "copy-chown-unknown-fails": Odd(
        fails="stranger", differ={"refusal": "BuildKit takes an unknown name for root, without a word"}
    ),
    "add-archive-chown": Odd(
        differ={"tree x/*": "--chown did not reach what archives hold; now it does (file/unpack.go, ChownOpts)"}
    ),
    "ignore-1": Odd(differ=ALL_XATTRS),
    "ignore-2": Odd(differ=ALL_XATTRS),
    "ignore-4": Odd(differ=ALL_XATTRS),
    "ignore-5": Odd(
        differ={"tree all/dir*": WALK, "tree all/caps/cap": CAPABILITIES, "tree all/caps/user": XATTR}
    ),
    "ignore-6": Odd(differ={"tree all/tree*": WALK, "tree w*": WALK}),
    "ignore-7": Odd(differ={"tree all/caps/sub/cap": CAPABILITIES}),
    "ignore-8": Odd(differ=ALL_XATTRS),
    "ignored-source-fails": Odd(fails="ignore"),
    "ignored-link-fails": Odd(fails="left out by"),
    "link-to-ignored-fails": Odd(fails="left out by"),
    "copy-glob-of-link-to-ignored-fails": Odd(fails="left out by"),
    "copy-glob-of-dangling-link-fails": Odd(fails="dangling"),
    "copy-below-ignored-link-fails": Odd(fails="left out by"),
    "copy-link-to-ignored-directory-fails": Odd(fails="left out by"),
    "copy-glob-of-dangling-link-in-a-stage-fails": Odd(fails="q/d"),
}  # fmt: skip
CASES = tuple(Case(file.stem, ODD.get(file.stem, Odd())) for file in sorted(FOLDER.glob("*.Dockerfile")))
