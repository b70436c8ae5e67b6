"""What a container made of its image, and changing it: both doors."""

import io
import json
import tarfile

from tests.integration.api.conftest import Api

SCRIPT = "echo new > /data/new; rm /data/seed; chmod 700 /data/deep; mkdir -p /made/deep; echo x > /made/deep/file"


class TestTaking:
    def test_changes_exports_and_commits(self, api: Api) -> None:
        api.ok("run", "--name", "changed", "-e", "KEPT=yes", "busybox", "sh", "-c", SCRIPT)
        expected = {
            "C /data",
            "A /data/new",
            "D /data/seed",
            "C /data/deep",
            "A /made",
            "A /made/deep",
            "A /made/deep/file",
        }
        shown = set(api.ok("diff", "changed").splitlines())
        assert expected <= shown
        assert set(api.pybuild.ok("diff", "changed").splitlines()) == shown
        found = api.http.get("/containers/changed/export")
        with tarfile.open(fileobj=io.BytesIO(found.content)) as archive:
            names = {name.removeprefix("./") for name in archive.getnames()}
        assert {"data/new", "made/deep/file", "bin/busybox"} <= names
        assert "data/seed" not in names
        image = api.ok("commit", "-m", "with changes", "-a", "somebody", "changed", "committed:1").strip()
        assert api.ok("inspect", "-f", "{{.Id}} {{.Author}}", "committed:1") == f"{image} somebody\n"
        script = "cat /data/new /made/deep/file; ls /data; echo $KEPT"
        assert api.ok("run", "--rm", "committed:1", "sh", "-c", script) == "new\nx\ndeep\nnew\nyes\n"
        assert "with changes" in api.ok("history", "committed:1")
        ours = api.pybuild.ok("commit", "changed").strip()
        assert ours.startswith("sha256:")
        api.ok("rm", "changed")
        api.ok("rmi", "committed:1")
        api.ok("rmi", ours)


class TestChanging:
    def test_limits_change_while_it_runs(self, api: Api) -> None:
        api.ok("run", "-d", "--name", "limited", "-m", "64m", "busybox", "sleep", "1000")
        api.ok("update", "-m", "128m", "--memory-swap", "256m", "--restart", "on-failure:2", "limited")
        found = json.loads(api.ok("inspect", "limited"))[0]["HostConfig"]
        assert (found["Memory"], found["MemorySwap"]) == (128 << 20, 256 << 20)
        assert found["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
        assert api.ok("stats", "--no-stream", "--format", "{{.MemUsage}}", "limited").endswith("/ 128MiB\n")
        api.ok("rm", "-f", "limited")

    def test_by_our_own_command_line(self, api: Api) -> None:
        api.pybuild.ok("run", "-d", "--name", "ours", "busybox", "sleep", "1000")
        api.pybuild.ok("pause", "ours")
        assert api.ok("inspect", "-f", "{{.State.Status}}", "ours") == "paused\n"
        assert api.docker("exec", "ours", "true").code != 0
        api.pybuild.ok("unpause", "ours")
        assert "sleep 1000" in api.pybuild.ok("top", "ours", "-o", "pid,args")
        api.pybuild.ok("rename", "ours", "renamed")
        api.pybuild.ok("restart", "-t", "0", "renamed")
        told = [json.loads(line) for line in api.pybuild.ok("events", "--past").splitlines()]
        of_it = [one["Action"] for one in told if one["Actor"]["Attributes"].get("name") in {"ours", "renamed"}]
        assert [one for one in of_it if one not in {"kill", "die", "stop"}] == [
            "create", "start", "pause", "unpause", "rename", "start", "restart",
        ]  # fmt: skip
        api.ok("rm", "-f", "renamed")
