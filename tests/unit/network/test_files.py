"""What a container finds in /etc/resolv.conf and /etc/hosts."""

from runner.network import hosts_file, resolv_conf


def test_servers_on_the_hosts_loopback_are_left_out() -> None:
    host = "nameserver 127.0.0.53\nnameserver 10.1.1.1 # office\nsearch corp.example\noptions edns0\n"
    assert resolv_conf(host) == "nameserver 10.1.1.1\nsearch corp.example\noptions edns0\n"


def test_public_servers_stand_in_when_none_is_left() -> None:
    assert resolv_conf("nameserver ::1\n") == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"


def test_what_the_user_gives_replaces_the_hosts() -> None:
    text = resolv_conf("nameserver 10.1.1.1\nsearch a\n", servers=["9.9.9.9"], search=["b", "c"], options=["ndots:2"])
    assert text == "nameserver 9.9.9.9\nsearch b c\noptions ndots:2\n"


def test_hosts_names_localhost_the_container_and_what_is_added() -> None:
    lines = hosts_file("box", "172.17.0.2", [("db", "10.0.0.5")]).splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[-2:] == ["10.0.0.5\tdb", "172.17.0.2\tbox"]
