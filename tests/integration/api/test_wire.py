"""What clients rely on, to the byte: headers, statuses, streams."""

import json
import time

import pytest

from tests.integration.api.conftest import Api, frames, output, until


class TestFrame:
    def test_a_ping_tells_versions_before_anything_else_is_asked(self, api: Api) -> None:
        found = api.http.get("/_ping")
        assert found.text == "OK"
        expected = {
            "Api-Version": "1.51", "Builder-Version": "1", "Docker-Experimental": "false", "Ostype": "linux",
            "Swarm": "inactive", "Pragma": "no-cache", "Cache-Control": "no-cache, no-store, must-revalidate",
        }  # fmt: skip
        assert {name: found.headers.get(name) for name in expected} == expected
        assert found.headers["Server"].startswith("Docker/")

    def test_a_ping_by_head_has_no_body(self, api: Api) -> None:
        found = api.http.head("/_ping")
        assert (found.status_code, found.headers["Content-Length"], found.headers["Api-Version"]) == (200, "0", "1.51")

    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("/v1.99/info", "client version 1.99 is too new. Maximum supported API version is 1.51"),
            ("/v1.12/info", "client version 1.12 is too old. Minimum supported API version is 1.24"),
        ],
    )
    def test_other_versions_are_refused(self, api: Api, path: str, words: str) -> None:
        found = api.http.get(path)
        assert found.status_code == 400
        assert found.json()["message"].startswith(words)

    @pytest.mark.parametrize(("method", "path"), [("GET", "/nosuch"), ("DELETE", "/info"), ("GET", "/v1.41/build")])
    def test_unknown_routes_and_methods_are_not_found(self, api: Api, method: str, path: str) -> None:
        found = api.http.request(method, path)
        assert (found.status_code, found.json()) == (404, {"message": "page not found"})

    def test_a_swarm_is_not_there(self, api: Api) -> None:
        found = api.http.get("/v1.41/services")
        assert found.status_code == 503
        assert "not a swarm manager" in found.json()["message"]

    def test_a_body_must_say_that_it_is_json(self, api: Api) -> None:
        found = api.http.post("/containers/create", content=b"{}", headers={"Content-Type": "text/plain"})
        assert found.status_code == 400
        assert "application/json" in found.json()["message"]

    @pytest.mark.parametrize("body", [b"{", b"[]", b'{"Image": 7}', b'{"Image": "busybox", "Cmd": {"a": 1}}'])
    def test_json_of_another_shape_is_refused(self, api: Api, body: bytes) -> None:
        found = api.http.post("/containers/create", content=body, headers={"Content-Type": "application/json"})
        assert found.status_code == 400
        assert found.json()["message"].startswith("invalid JSON")

    @pytest.mark.parametrize("form", ['{"name": ["filtered"]}', '{"name": {"filtered": true}}'])
    def test_filters_come_in_two_forms(self, api: Api, form: str) -> None:
        made = api.create("true", name="filtered")
        found = api.http.get("/containers/json", params={"all": "1", "filters": form}).json()
        api.http.delete(f"/containers/{made}")
        assert [one["Names"] for one in found] == [["/filtered"]]

    @pytest.mark.parametrize("form", ['{"nosuch": ["x"]}', "[]", "{", '{"name": 7}', '{"name": [7]}'])
    def test_unknown_filters_are_refused(self, api: Api, form: str) -> None:
        found = api.http.get("/containers/json", params={"filters": form})
        assert found.status_code == 400
        assert found.json()["message"].startswith("invalid filter")

    @pytest.mark.parametrize(
        ("value", "seen"), [("1", True), ("yes", True), ("0", False), ("false", False), ("", False)]
    )
    def test_booleans_are_docker_s(self, api: Api, value: str, seen: bool) -> None:
        made = api.create("true")
        found = api.http.get("/containers/json", params={"all": value}).json()
        api.http.delete(f"/containers/{made}")
        assert (made in [one["Id"] for one in found]) == seen

    def test_a_web_page_gets_nothing(self, api: Api) -> None:
        found = api.http.get("/containers/json", headers={"Origin": "http://example.com"})
        assert found.status_code == 403


class TestStatuses:
    def test_of_a_container_s_life(self, api: Api) -> None:
        made = api.create("sleep", "1000", name="statuses")
        post = api.http.post
        assert (
            api.http.post("/containers/create", params={"name": "statuses"}, json={"Image": "busybox"}).status_code
            == 409
        )
        assert post(f"/containers/{made}/kill").status_code == 409
        assert post(f"/containers/{made}/stop").status_code == 304
        assert post(f"/containers/{made}/start").status_code == 204
        again = post(f"/containers/{made}/start")
        assert (again.status_code, again.content) == (304, b"")
        assert api.http.delete(f"/containers/{made}").status_code == 409
        assert post(f"/containers/{made}/stop", params={"t": "0"}).status_code == 204
        assert api.http.delete(f"/containers/{made}").status_code == 204
        assert api.http.delete(f"/containers/{made}").json() == {"message": f"No such container: {made}"}

    def test_the_text_for_a_taken_name_is_docker_s(self, api: Api) -> None:
        made = api.create("true", name="taken")
        found = api.http.post("/containers/create", params={"name": "taken"}, json={"Image": "busybox"})
        api.http.delete(f"/containers/{made}")
        words = f'Conflict. The container name "/taken" is already in use by container "{made}"'
        assert found.json()["message"].startswith(words)

    def test_the_text_for_an_image_that_is_not_there_makes_clients_pull(self, api: Api) -> None:
        found = api.http.post("/containers/create", json={"Image": "127.0.0.1:1/nosuch", "Cmd": ["x"]})
        assert (found.status_code, found.json()) == (404, {"message": "No such image: 127.0.0.1:1/nosuch:latest"})

    def test_a_command_that_is_not_there_is_told_at_the_start(self, api: Api) -> None:
        made = api.create("nosuchprogram")
        found = api.http.post(f"/containers/{made}/start")
        api.http.delete(f"/containers/{made}")
        assert found.status_code == 400
        assert "executable file not found" in found.json()["message"]

    def test_a_wait_for_an_unknown_condition_is_refused(self, api: Api) -> None:
        made = api.create("true")
        found = api.http.post(f"/containers/{made}/wait", params={"condition": "nosuch"})
        api.http.delete(f"/containers/{made}")
        assert found.status_code == 400


class TestAttach:
    def test_upgrades_and_tells_what_comes(self, api: Api) -> None:
        made = api.create("echo", "hello")
        with api.raw() as wire:
            status, headers = wire.upgrade(f"/v1.42/containers/{made}/attach?stream=1&stdout=1&stderr=1")
            assert status == "HTTP/1.1 101 UPGRADED"
            assert headers["connection"] == "Upgrade"
            assert headers["upgrade"] == "tcp"
            assert headers["content-type"] == "application/vnd.docker.multiplexed-stream"
            api.http.post(f"/containers/{made}/start")
            assert frames(wire.all()) == [(1, b"hello\n")]

    @pytest.mark.parametrize("version", ["v1.41", "v1.24"])
    def test_names_streams_as_older_clients_know_them(self, api: Api, version: str) -> None:
        made = api.create("true")
        with api.raw() as wire:
            _, headers = wire.upgrade(f"/{version}/containers/{made}/attach?stream=1&stdout=1")
            assert headers["content-type"] == "application/vnd.docker.raw-stream"
            api.http.post(f"/containers/{made}/start")
            wire.all()

    def test_works_for_clients_that_do_not_ask_for_an_upgrade(self, api: Api) -> None:
        made = api.create("cat", OpenStdin=True, StdinOnce=True, AttachStdin=True)
        with api.raw() as wire:
            status, _ = wire.ask("POST", f"/containers/{made}/attach?stream=1&stdin=1&stdout=1")
            assert status == "HTTP/1.1 200 OK"
            api.http.post(f"/containers/{made}/start")
            wire.sock.sendall(b"typed\n")
            wire.half_close()
            assert output(wire.all()) == b"typed\n"

    def test_not_one_byte_of_a_short_process_is_lost(self, api: Api) -> None:
        for _ in range(10):
            made = api.create("sh", "-c", "echo out; echo err >&2")
            with api.raw() as wire:
                wire.upgrade(f"/containers/{made}/attach?stream=1&stdout=1&stderr=1")
                api.http.post(f"/containers/{made}/start")
                data = wire.all()
            assert (output(data, 1), output(data, 2)) == (b"out\n", b"err\n")
            api.http.delete(f"/containers/{made}")

    def test_the_end_of_input_does_not_end_the_output(self, api: Api) -> None:
        made = api.create(
            "sh", "-c", "cat; echo after", OpenStdin=True, StdinOnce=True, AttachStdin=True, AttachStdout=True
        )
        with api.raw() as wire:
            wire.upgrade(f"/containers/{made}/attach?stream=1&stdin=1&stdout=1")
            api.http.post(f"/containers/{made}/start")
            wire.sock.sendall(b"before\n")
            wire.half_close()
            assert output(wire.all()) == b"before\nafter\n"

    def test_a_terminal_has_no_frames_and_is_left_by_keys(self, api: Api) -> None:
        made = api.create("cat", Tty=True, OpenStdin=True, AttachStdin=True)
        with api.raw() as wire:
            _, headers = wire.upgrade(f"/containers/{made}/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-x,x")
            assert headers["content-type"] == "application/vnd.docker.raw-stream"
            api.http.post(f"/containers/{made}/start")
            wire.sock.sendall(b"typed\n")
            wire.until(b"typed\r\ntyped\r\n")
            wire.sock.sendall(b"\x18x")
            wire.all()
        assert api.http.get(f"/containers/{made}/json").json()["State"]["Running"]
        api.http.delete(f"/containers/{made}", params={"force": "1"})

    def test_to_a_running_container_shows_what_comes(self, api: Api) -> None:
        made = api.run("cat", OpenStdin=True)
        with api.raw() as one, api.raw() as other:
            one.upgrade(f"/containers/{made}/attach?stream=1&stdin=1&stdout=1")
            other.upgrade(f"/containers/{made}/attach?stream=1&stdout=1")
            one.sock.sendall(b"for both\n")
            assert output(one.until(b"for both\n")) == output(other.until(b"for both\n")) == b"for both\n"
        api.http.delete(f"/containers/{made}", params={"force": "1"})

    def test_sees_a_container_that_the_other_door_starts(self, api: Api) -> None:
        made = api.create("sh", "-c", "read line; echo got $line", OpenStdin=True)
        with api.raw() as wire:
            wire.upgrade(f"/containers/{made}/attach?stream=1&stdin=1&stdout=1")
            api.pybuild.ok("start", made)
            wire.sock.sendall(b"this\n")
            assert output(wire.all()) == b"got this\n"

    def test_ends_when_the_container_is_removed(self, api: Api) -> None:
        made = api.create("true")
        with api.raw() as wire:
            wire.upgrade(f"/containers/{made}/attach?stream=1&stdout=1")
            api.http.delete(f"/containers/{made}")
            assert wire.all() == b""


class TestWait:
    def test_answers_with_headers_at_once_and_with_the_code_at_the_end(self, api: Api) -> None:
        made = api.create("sh", "-c", "exit 9")
        with api.raw() as wire:
            status, headers = wire.ask("POST", f"/containers/{made}/wait?condition=next-exit")
            assert status == "HTTP/1.1 200 OK"
            assert headers["transfer-encoding"] == "chunked"
            assert wire.silent()
            api.http.post(f"/containers/{made}/start")
            assert b'{"StatusCode": 9}' in wire.until(b"0\r\n\r\n")

    def test_for_a_removal_ends_after_it(self, api: Api) -> None:
        made = api.create("true", HostConfig={"AutoRemove": True})
        with api.raw() as wire:
            wire.ask("POST", f"/containers/{made}/wait?condition=removed")
            api.http.post(f"/containers/{made}/start")
            wire.until(b"0\r\n\r\n")
        assert api.http.get(f"/containers/{made}/json").status_code == 404

    def test_of_one_that_has_stopped_is_over_at_once(self, api: Api) -> None:
        made = api.run("sh", "-c", "exit 4")
        assert api.wait(made) == 4
        assert api.wait(made) == 4

    def test_hears_of_containers_that_the_other_door_started(self, api: Api) -> None:
        made = api.create("sh", "-c", "exit 6")
        with api.raw() as wire:
            wire.ask("POST", f"/containers/{made}/wait?condition=next-exit")
            api.pybuild.ok("start", made)
            assert b'{"StatusCode": 6}' in wire.until(b"0\r\n\r\n")


class TestLogs:
    def test_must_be_of_a_stream(self, api: Api) -> None:
        made = api.create("true")
        found = api.http.get(f"/containers/{made}/logs")
        assert found.status_code == 400
        assert "you must choose at least one stream" in found.json()["message"]

    def test_are_framed_with_the_time_inside_the_frame(self, api: Api) -> None:
        made = api.run("sh", "-c", "echo out; echo err >&2")
        api.wait(made)
        found = api.http.get(f"/containers/{made}/logs", params={"stdout": "1", "stderr": "1", "timestamps": "1"})
        pieces = dict(frames(found.content))
        for kind, text in ((1, b"out\n"), (2, b"err\n")):
            stamp, _, line = pieces[kind].partition(b" ")
            assert line == text
            assert len(stamp) == len(b"2026-01-01T00:00:00.000000000Z")

    def test_end_with_the_last_lines_that_were_asked_for(self, api: Api) -> None:
        made = api.run("sh", "-c", "for n in 1 2 3 4 5; do echo $n; done")
        api.wait(made)
        found = api.http.get(f"/containers/{made}/logs", params={"stdout": "1", "tail": "2"})
        assert output(found.content) == b"4\n5\n"

    def test_are_followed_to_the_end(self, api: Api) -> None:
        made = api.run("sh", "-c", "echo first; read line; echo $line", OpenStdin=True)
        with api.http.stream("GET", f"/containers/{made}/logs", params={"stdout": "1", "follow": "1"}) as stream:
            pieces = stream.iter_raw()
            seen = next(pieces)
            with api.raw() as wire:
                wire.upgrade(f"/containers/{made}/attach?stream=1&stdin=1")
                wire.sock.sendall(b"second\n")
                seen += b"".join(pieces)
        assert output(seen) == b"first\nsecond\n"

    def test_of_many_followers_keep_nobody_else_waiting(self, api: Api) -> None:
        made = api.run("sleep", "1000")
        wires = [api.raw() for _ in range(60)]
        for wire in wires:
            wire.ask("GET", f"/containers/{made}/logs?stdout=1&follow=1")
        waiters = [api.raw() for _ in range(60)]
        for wire in waiters:
            wire.ask("POST", f"/containers/{made}/wait")
        assert api.http.get("/containers/json").status_code == 200
        api.http.delete(f"/containers/{made}", params={"force": "1"})
        for wire in [*wires, *waiters]:
            wire.until(b"0\r\n\r\n")
            wire.sock.close()


class TestExec:
    def exec(self, api: Api, container: str, *command: str, **config: object) -> str:
        body = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True, **config}
        found = api.http.post(f"/containers/{container}/exec", json=body)
        assert found.status_code == 201, found.text
        return str(found.json()["Id"])

    def test_upgrades_carries_both_ways_and_keeps_the_code(self, api: Api) -> None:
        made = api.run("sleep", "1000")
        one = self.exec(api, made, "sh", "-c", "cat; echo err >&2; exit 5", AttachStdin=True)
        with api.raw() as wire:
            status, _ = wire.upgrade(f"/exec/{one}/start", {"Detach": False, "Tty": False})
            assert status == "HTTP/1.1 101 UPGRADED"
            wire.sock.sendall(b"typed")
            wire.half_close()
            data = wire.all()
        assert (output(data, 1), output(data, 2)) == (b"typed", b"err\n")
        found = api.http.get(f"/exec/{one}/json").json()
        assert (found["Running"], found["ExitCode"], found["ContainerID"]) == (False, 5, made)
        assert api.http.post(f"/exec/{one}/start", json={}).status_code == 409
        api.http.delete(f"/containers/{made}", params={"force": "1"})

    def test_detached_ends_on_its_own(self, api: Api) -> None:
        made = api.run("sleep", "1000")
        one = self.exec(api, made, "sh", "-c", "exit 3")
        assert api.http.post(f"/exec/{one}/start", json={"Detach": True}).status_code == 200
        until(lambda: api.http.get(f"/exec/{one}/json").json()["ExitCode"] == 3, "no exit code")
        api.http.delete(f"/containers/{made}", params={"force": "1"})

    def test_a_failure_after_the_upgrade_is_told_as_text(self, api: Api) -> None:
        made = api.run("sleep", "1000")
        one = self.exec(api, made, "nosuchprogram")
        with api.raw() as wire:
            wire.upgrade(f"/exec/{one}/start", {})
            assert b"executable file not found" in wire.all()
        assert api.http.get(f"/exec/{one}/json").json()["ExitCode"] == 127
        api.http.delete(f"/containers/{made}", params={"force": "1"})

    def test_is_forgotten_with_its_container(self, api: Api) -> None:
        made = api.run("sleep", "1000")
        one = self.exec(api, made, "true")
        api.http.delete(f"/containers/{made}", params={"force": "1"})
        until(lambda: api.http.get(f"/exec/{one}/json").status_code == 404, "it is still known")

    def test_of_one_that_does_not_run_is_a_conflict(self, api: Api) -> None:
        made = api.create("true")
        found = api.http.post(f"/containers/{made}/exec", json={"Cmd": ["true"]})
        assert found.status_code == 409
        assert "is not running" in found.json()["message"]


class TestEvents:
    def test_of_a_life_come_in_order_with_all_fields(self, api: Api) -> None:
        with api.http.stream("GET", "/events", params={"filters": '{"label": ["life=1"]}'}) as stream:
            made = api.run("sh", "-c", "exit 3", Labels={"life": "1"})
            api.wait(made)
            api.http.delete(f"/containers/{made}")
            found = []
            for line in stream.iter_lines():
                found.append(json.loads(line))
                if found[-1]["Action"] == "destroy":
                    break
        assert [one["Action"] for one in found] == ["create", "start", "die", "destroy"]
        for one in found:
            assert (one["status"], one["id"], one["from"]) == (one["Action"], made, "busybox")
            assert one["timeNano"] // 10**9 == one["time"]
        assert found[2]["Actor"]["Attributes"]["exitCode"] == "3"

    def test_of_the_past_end_when_they_should(self, api: Api) -> None:
        made = api.create("true", Labels={"past": "1"})
        now = f"{time.time_ns() // 10**9 + 1}"
        found = api.http.get("/events", params={"since": "1", "until": now, "filters": '{"label": ["past=1"]}'})
        assert [json.loads(line)["Action"] for line in found.text.splitlines()] == ["create"]
        assert api.http.get("/events", params={"since": "1", "until": "2"}).content == b""
        api.http.delete(f"/containers/{made}")


class TestSocket:
    def test_a_socket_with_a_listener_is_not_taken(self, api: Api) -> None:
        found = api.pybuild("daemon", "-H", f"unix://{api.socket}")
        assert found.code == 1
        assert "somebody listens" in found.err
        assert api.http.get("/_ping").status_code == 200

    def test_the_socket_is_for_root_and_its_group(self, api: Api) -> None:
        assert api.socket.stat().st_mode & 0o777 == 0o660
