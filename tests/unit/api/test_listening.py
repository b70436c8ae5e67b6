"""Where a daemon may listen."""

import socket
from pathlib import Path

import pytest

from pybuild.api.listening import listen
from pybuild.errors import EngineError, UsageError


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("tcp://192.0.2.1:2375", "would be root here"),
        ("tcp://0.0.0.0:2375", "would be root here"),
        ("tcp://example.com:2375", "would be root here"),
        ("tcp://127.0.0.1", "not an address to listen on"),
        ("tcp://127.0.0.1:99999", "not an address to listen on"),
        ("tcp://127.0.0.1:1/path", "not an address to listen on"),
        ("http://127.0.0.1:1", "not an address to listen on"),
        ("unix://relative", "not an absolute path"),
        ("fd://", "no sockets were passed"),
    ],
)
def test_what_is_unsafe_or_nonsense_is_refused(address: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        listen(address, group="", tls=None, environment={})


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    (one,) = listen(f"unix://{path}", group="", tls=None, environment={})
    assert path.stat().st_mode & 0o777 == 0o660
    with pytest.raises(EngineError, match="somebody listens"):
        listen(f"unix://{path}", group="", tls=None, environment={})
    one.close()
    assert not path.exists()


def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("kept")
    with pytest.raises(EngineError, match="is no socket"):
        listen(f"unix://{path}", group="", tls=None, environment={})
    assert path.read_text() == "kept"
