"""What a default container of ours may do and see, line by line as dockerd gives it for the same command."""

import re
from pathlib import Path

import pytest

from tests.interop.peers import Tool

pytestmark = [pytest.mark.root, pytest.mark.net, pytest.mark.slow]

# Where we are stricter than the dockerd that Debian ships (20.10): what newer ones mask or block, with the advisory.
STRICTER = {
    "masked /proc/interrupts": "GHSA-6fw5-f8r9-fgfm",
    "mount /proc/interrupts tmpfs rw,nosuid": "the same: /dev/null is bound over it",
    "masked /sys/devices/virtual/powercap": "GHSA-jq35-85cj-fj4p",
    "mount /sys/fs/cgroup tmpfs ro,nosuid,nodev,noexec,relatime": "runc 1.1 leaves the directory of hierarchies open",
    "read-only /sys/fs/cgroup": "the same",
}
LOOSER = {
    "open /proc/interrupts", "open /sys/devices/virtual/powercap", "writable /sys/fs/cgroup",
    "mount /sys/fs/cgroup tmpfs rw,nosuid,nodev,noexec,relatime",
}  # fmt: skip
REPORT = r"""
grep -E '^(Cap|Seccomp|NoNewPrivs|Groups|Uid|Gid|Umask)' /proc/self/status | grep -v Seccomp_filters
for fd in /proc/self/fd/*; do echo "fd ${fd##*/}"; done | head -3
while read -r _ _ _ _ point options rest; do
    fields=${rest#*- }; echo "mount $point ${fields%% *} $options"
done < /proc/self/mountinfo
for node in /dev/* /dev/pts /dev/shm; do stat -c 'node %n %F %t:%T %a %u:%g' "$node"; done
for link in fd stdin stdout stderr core ptmx; do echo "link $link $(readlink /dev/$link)"; done
sed 's/  */ /g; s/^/limit /' /proc/self/limits
for path in /proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/sched_debug /proc/scsi \
    /proc/interrupts /sys/firmware /sys/devices/virtual/powercap; do
    [ -e $path ] || { echo "absent $path"; continue; }
    if [ -d $path ]; then [ -z "$(ls $path)" ] && echo "masked $path" || echo "open $path"
    else [ -z "$(head -c 1 $path 2>/dev/null)" ] && echo "masked $path" || echo "open $path"; fi
done
for path in /proc/bus /proc/fs /proc/irq /proc/sys/kernel/panic /proc/sysrq-trigger /sys/kernel /sys/fs/cgroup; do
    [ -e $path ] || continue
    (: > $path/x) 2>/dev/null || (: >> $path) 2>/dev/null && echo "writable $path" || echo "read-only $path"
done
env | grep -v '^HOSTNAME=' | sed 's/^/env /'
for ns in /proc/self/ns/*; do echo "ns ${ns##*/} $(readlink $ns)"; done
sed 's/^[0-9]*:/cgroup /; s/[0-9a-f]\{64\}/ID/' /proc/self/cgroup
echo "oom $(cat /proc/self/oom_score_adj)"
echo "init $(tr '\0' ' ' < /proc/1/cmdline | cut -c 1-8)"
echo "hostname-length $(hostname | tr -d '\n' | wc -c)"
for key in net.ipv4.ping_group_range net.ipv4.ip_unprivileged_port_start kernel.domainname; do
    echo "sysctl $key $(cat /proc/sys/$(echo $key | tr . /) | tr '\t' ' ')"
done
echo "cwd $(pwd)"
unshare -U true 2>/dev/null && echo "may make user namespaces" || echo "no user namespaces"
mount -t tmpfs none /mnt 2>/dev/null && echo "may mount" || echo "no mount"
mknod /tmp/node b 8 0 2>/dev/null && (head -c 1 /tmp/node >/dev/null 2>&1) && echo "reads disks" || echo "reads no disk"
"""


@pytest.fixture(scope="module")
def image(pybuild: Tool, docker: Tool, work: Path) -> str:
    context = work / "busybox"
    context.mkdir()
    (context / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (context / "busybox").chmod(0o755)
    (context / "report").write_text(REPORT)
    (context / "Dockerfile").write_text(
        "FROM scratch\nCOPY busybox /bin/busybox\nCOPY report /report\n"
        "COPY <<EOT /etc/passwd\nroot:x:0:0::/root:/bin/sh\nEOT\nCOPY <<EOT /etc/group\nroot:x:0:\nEOT\n"
        'RUN ["/bin/busybox", "sh", "-c", "/bin/busybox --install -s /bin; mkdir /tmp /mnt"]\nCMD ["sh", "/report"]\n'
    )
    pybuild("build", "-t", "report:1", str(context))
    pybuild("save", "-o", str(work / "report.tar"), "report:1")
    docker("load", "-i", str(work / "report.tar"))
    return "report:1"


def normal(report: str, host: dict[str, str]) -> set[str]:
    """What must differ is named by what it means: an own namespace, a group of limits, the store's directories."""
    found = set()
    for line in report.splitlines():
        line = re.sub(r"\b[a-z]+:\[\d+\]", lambda at: "host's" if at[0] in host.values() else "own", line)
        line = re.sub(r"(cgroup \S*:).*", r"\1", line)
        line = re.sub(r"size=\d+k|nr_inodes=\d+|inode64|lowerdir\S*", "", line)
        found.add(line.strip())
    return found


def namespaces_of_host() -> dict[str, str]:
    return {entry.name: str(entry.readlink()) for entry in Path("/proc/self/ns").iterdir()}


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN"),
        ("--cap-drop", "ALL"),
        ("--read-only",),
        ("-u", "1000:1000"),
    ],
    ids=["default", "cap-add and cap-drop", "cap-drop ALL", "read-only", "user"],
)
def test_a_container_is_confined_as_dockers(docker: Tool, pybuild: Tool, image: str, options: tuple[str, ...]) -> None:
    host = namespaces_of_host()
    command = ("run", "--rm", "--network", "none", *options, image)
    theirs, ours = normal(docker(*command), host), normal(pybuild(*command), host)
    missing = theirs - LOOSER - ours
    extra = ours - set(STRICTER) - theirs
    difference = [*(f"- {line}" for line in sorted(missing)), *(f"+ {line}" for line in sorted(extra))]
    assert difference == []


def test_a_terminal_and_its_limits_are_dockers(docker: Tool, pybuild: Tool, image: str) -> None:
    # The clients set the size after the start, so the script waits for it.
    script = (
        'until [ "$(stty size)" = "40 100" ]; do sleep 0.1; done; stty -a; tty; echo $TERM; stat -c %A /dev/console'
    )
    command = ("run", "--rm", "-it", "--network", "none", image, "sh", "-c", script)
    assert in_a_terminal(pybuild, *command) == in_a_terminal(docker, *command)


def in_a_terminal(tool: Tool, *words: str) -> list[str]:
    import os

    import pexpect

    child = pexpect.spawn(
        tool.words[0], [*tool.words[1:], *words], env={**os.environ, **tool.env}, dimensions=(40, 100)
    )
    child.expect(pexpect.EOF)
    lines = bytes(child.before).decode().splitlines()
    return [line for line in lines if not line.startswith("stty: ")]  # from before the size was set
