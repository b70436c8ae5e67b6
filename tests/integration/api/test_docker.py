"""The real docker command line (Debian's 20.10) against the daemon."""

import json
import subprocess

import pexpect

from tests.integration.api.conftest import DOCKER, PATIENCE, Api, until


class TestRun:
    def test_shows_output_and_ends_with_the_code(self, api: Api) -> None:
        found = api.docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7")
        assert (found.code, found.out, found.err) == (7, "out\n", "err\n")

    def test_takes_input(self, api: Api) -> None:
        assert api.ok("run", "--rm", "-i", "busybox", "cat", stdin="typed\n") == "typed\n"

    def test_codes_tell_who_failed(self, api: Api) -> None:
        assert api.docker("run", "--rm", "busybox", "nosuchprogram").code == 127
        assert api.docker("run", "--rm", "busybox", "/etc/passwd").code == 126
        assert api.docker("run", "--rm", "--network", "nosuch", "busybox", "true").code == 125

    def test_options_reach_the_container(self, api: Api) -> None:
        words = ["--rm", "-e", "A=b", "-w", "/tmp", "-u", "1000:1000", "--hostname", "box", "-m", "64m", "--read-only",
                 "--tmpfs", "/scratch", "--cap-drop", "ALL", "-l", "x=y", "--network", "none"]  # fmt: skip
        script = "echo $A $(pwd) $(id -u) $(hostname); touch /x 2>/dev/null || echo ro; touch /scratch/y && echo rw"
        assert api.ok("run", *words, "busybox", "sh", "-c", script) == "b /tmp 1000 box\nro\nrw\n"

    def test_a_detached_one_lives_until_it_is_stopped(self, api: Api) -> None:
        made = api.ok("run", "-d", "--name", "life", "busybox", "sh", "-c", "echo up; exec sleep 1000").strip()
        assert "life" in api.ok("ps")
        until(lambda: api.ok("logs", "life") == "up\n", "no log")
        assert api.ok("exec", "life", "echo", "inside") == "inside\n"
        assert api.ok("exec", "-i", "life", "cat", stdin="typed") == "typed"
        assert api.docker("exec", "life", "sh", "-c", "exit 4").code == 4
        assert (
            api.ok("inspect", "-f", "{{.Id}} {{.State.Running}} {{.Config.Image}}", "life") == f"{made} true busybox\n"
        )
        api.ok("pause", "life")
        assert "(Paused)" in api.ok("ps")
        api.ok("unpause", "life")
        api.ok("rename", "life", "other")
        api.ok("stop", "-t", "0", "other")
        assert api.ok("inspect", "-f", "{{.State.ExitCode}}", "other") == "137\n"
        assert "Exited (137)" in api.ok("ps", "-a")
        api.ok("restart", "other")
        assert api.docker("rm", "other").code == 1
        api.ok("rm", "-f", "other")
        assert "other" not in api.ok("ps", "-a")

    def test_start_attached_follows_to_the_end(self, api: Api) -> None:
        api.ok("create", "--name", "again", "busybox", "sh", "-c", "echo ran; exit 5")
        for _ in range(2):
            found = api.docker("start", "-a", "again")
            assert (found.code, found.out) == (5, "ran\n")
        api.ok("rm", "again")

    def test_attach_ends_with_the_container(self, api: Api) -> None:
        api.ok("run", "-d", "-i", "--name", "attached", "busybox", "sh", "-c", "read line; echo got $line; exit 6")
        found = api.docker("attach", "attached", stdin="this\n")
        assert (found.code, found.out) == (6, "got this\n")
        api.ok("rm", "attached")

    def test_both_doors_see_the_same_containers(self, api: Api) -> None:
        api.ok("run", "-d", "--name", "docker-s", "busybox", "sleep", "1000")
        api.pybuild.ok("run", "-d", "--name", "pybuild-s", "busybox", "sleep", "1000")
        assert {"docker-s", "pybuild-s"} <= set(api.ok("ps", "--format", "{{.Names}}").split())
        assert {"docker-s", "pybuild-s"} <= set(api.pybuild.ok("ps", "--format", "{{.Names}}").split())
        api.ok("rm", "-f", "pybuild-s")
        api.pybuild.ok("rm", "-f", "docker-s")
        assert not {"docker-s", "pybuild-s"} & set(api.ok("ps", "-a", "--format", "{{.Names}}").split())


class TestAbout:
    def test_version_and_info_are_understood(self, api: Api) -> None:
        assert api.ok("version", "--format", "{{.Server.APIVersion}} {{.Server.MinAPIVersion}}") == "1.51 1.24\n"
        found = json.loads(api.ok("info", "--format", "{{json .}}"))
        assert (found["Swarm"]["LocalNodeState"], found["OSType"], found["Images"]) == ("inactive", "linux", 1)

    def test_images_are_listed_and_inspected(self, api: Api) -> None:
        assert api.ok("images", "--format", "{{.Repository}}:{{.Tag}}").strip() == "busybox:latest"
        image = api.ok("inspect", "-f", "{{.Id}}", "--type", "image", "busybox").strip()
        assert image.startswith("sha256:")
        api.ok("tag", "busybox", "other:1")
        assert api.ok("images", "-q", "--no-trunc", "other").strip() == image
        assert "Untagged: other:1" in api.ok("rmi", "other:1")
        assert "no such image" in api.docker("inspect", "--type", "image", "nosuch").err.lower()


class TestDaemon:
    def test_may_be_killed_while_containers_go_on(self, api: Api) -> None:
        api.ok("run", "-d", "--name", "survivor", "busybox", "sh", "-c", "while true; do date; sleep 0.1; done")
        api.ok("run", "-d", "--name", "ender", "busybox", "sh", "-c", "sleep 2; exit 3")
        pid = api.ok("inspect", "-f", "{{.State.Pid}}", "survivor")
        api.stop(9)
        until(lambda: api.pybuild.inspect("ender")["State"]["Status"] == "exited", "ender does not end")
        api.start()
        assert api.ok("inspect", "-f", "{{.State.Pid}}", "survivor") == pid
        assert api.ok("inspect", "-f", "{{.State.ExitCode}}", "ender") == "3\n"
        before = len(api.ok("logs", "survivor").splitlines())
        until(lambda: len(api.ok("logs", "survivor").splitlines()) > before, "its log does not grow")
        assert api.ok("exec", "survivor", "echo", "in") == "in\n"
        api.ok("rm", "-f", "survivor", "ender")

    def test_stops_when_it_is_asked_to_though_clients_wait(self, api: Api) -> None:
        api.ok("run", "-d", "--name", "waited", "busybox", "sleep", "1000")
        clients = [
            subprocess.Popen([DOCKER, *words], env=api.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for words in (["wait", "waited"], ["logs", "-f", "waited"], ["events"], ["attach", "--no-stdin", "waited"])
        ]
        assert api.stop() == 0
        for client in clients:
            client.communicate(timeout=PATIENCE)
        assert not api.socket.exists()
        api.start()
        assert api.ok("inspect", "-f", "{{.State.Running}}", "waited") == "true\n"
        api.ok("rm", "-f", "waited")

    def test_restart_policies_go_on_without_it(self, api: Api) -> None:
        api.ok("run", "-d", "--name", "phoenix", "--restart", "always", "busybox", "sh", "-c", "echo life; exit 1")
        api.ok("run", "-d", "--name", "twice", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo try; exit 1")
        api.stop(9)

        def log(name: str) -> list[str]:
            return api.pybuild.ok("logs", name).splitlines()

        until(lambda: len(log("phoenix")) >= 4 and len(log("twice")) == 3, "they are not started again")
        api.start()
        until(lambda: len(log("phoenix")) >= 5, "it is not started again")
        api.ok("stop", "phoenix")
        ended = len(log("phoenix"))
        until(lambda: api.ok("inspect", "-f", "{{.State.Status}}", "phoenix") == "exited\n", "it does not stay stopped")
        assert len(log("phoenix")) == ended
        api.ok("rm", "-f", "phoenix", "twice")


class TestNumbers:
    def test_of_use_and_processes(self, api: Api) -> None:
        api.ok("run", "-d", "--name", "used", "-m", "64m", "busybox", "sleep", "1000")
        shown = api.ok("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}", "used")
        assert shown.startswith("used ")
        assert shown.endswith("/ 64MiB 1\n")
        titles, *rows = api.ok("top", "used", "-o", "pid,args").splitlines()
        assert titles.split() == ["PID", "COMMAND"]
        assert [row.split(None, 1)[1] for row in rows] == ["sleep 1000"]
        assert api.docker("top", "used", "--nosuch").code == 1
        one = api.http.get("/containers/used/stats", params={"stream": "0", "one-shot": "1"}).json()
        assert one["memory_stats"]["limit"] == 64 << 20
        assert one["precpu_stats"]["cpu_usage"]["total_usage"] == 0
        assert "eth0" in one["networks"]
        api.ok("rm", "-f", "used")

    def test_of_one_that_stopped_are_zero(self, api: Api) -> None:
        made = api.create("true", name="idle")
        one = api.http.get("/containers/idle/stats", params={"stream": "0"}).json()
        assert (one["name"], one["id"], one["pids_stats"]) == ("/idle", made, {})
        assert api.http.get("/containers/idle/top").status_code == 409
        api.ok("rm", "idle")

    def test_of_the_disk(self, api: Api) -> None:
        api.ok("create", "--name", "on-disk", "-v", "disk:/v", "busybox")
        rows = {line.split()[0]: line.split() for line in api.ok("system", "df").replace("Local ", "").splitlines()}
        assert rows["Images"][1] == rows["Containers"][1] == rows["Volumes"][1] == "1"
        assert api.http.get("/system/df", params={"type": "nosuch"}).status_code == 400
        api.ok("rm", "on-disk")
        api.ok("volume", "rm", "disk")


def sized(rows: int, columns: int) -> str:
    """Wait until the terminal has that size: the client tells it after the start."""
    return f"until [ \"$(stty size 2>/dev/null)\" = '{rows} {columns}' ]; do sleep 0.1; done; echo has {rows}"


class TestTerminal:
    def test_has_the_size_of_the_user_s_and_follows_it(self, api: Api) -> None:
        script = f"{sized(31, 97)}; {sized(20, 60)}; read line; echo typed $line"
        words = ["run", "--rm", "-it", "busybox", "sh", "-c", script]
        child = pexpect.spawn(DOCKER, words, env=api.environment, dimensions=(31, 97), timeout=PATIENCE)
        child.expect("has 31")
        child.setwinsize(20, 60)
        child.expect("has 20")
        child.sendline("this")
        child.expect("typed this")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0

    def test_is_left_by_keys_and_attached_to_again(self, api: Api) -> None:
        words = ["run", "-it", "--name", "left", "busybox", "sh"]
        child = pexpect.spawn(DOCKER, words, env=api.environment, timeout=PATIENCE)
        child.expect("# ")
        child.send("\x10\x11")
        child.expect(pexpect.EOF)
        child.close()
        assert api.ok("inspect", "-f", "{{.State.Running}}", "left") == "true\n"
        child = pexpect.spawn(DOCKER, ["attach", "left"], env=api.environment, timeout=PATIENCE)
        child.sendline("exit 5")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 5
        api.ok("rm", "left")

    def test_of_an_exec_is_one_of_its_own(self, api: Api) -> None:
        api.ok("run", "-d", "--name", "entered", "busybox", "sleep", "1000")
        words = ["exec", "-it", "entered", "sh", "-c", f"tty; {sized(25, 90)}; exit 4"]
        child = pexpect.spawn(DOCKER, words, env=api.environment, dimensions=(25, 90), timeout=PATIENCE)
        child.expect("/dev/pts/")
        child.expect("has 25")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 4
        api.ok("rm", "-f", "entered")
