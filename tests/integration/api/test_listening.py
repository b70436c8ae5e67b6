"""Where the daemon listens, and for whom."""

import contextlib
import datetime as dt
import ipaddress
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.api.conftest import PATIENCE
from tests.integration.run.conftest import Pybuild, end


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="pybuild-listen-", dir="/dev/shm"))
    yield made
    end(made)
    shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def daemon(command: list[str], **settings: object) -> Iterator[list[str]]:
    """A daemon that serves; where, as it says."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **settings) as process:  # type: ignore[call-overload]  # as given
        try:
            line = ""
            for line in process.stderr:
                if "serving" in line:
                    break
            yield re.findall(r"(?:unix|tcp)://\S+?(?=,|$)", line.strip())
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)


class Authority:
    """Signs certificates."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, directory.name)])
        self._write("ca", self.key, self._sign(self.name, self.key, ca=True))

    def issue(self, name: str) -> tuple[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._write(name, key, self._sign(subject, key, ca=False))

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - dt.timedelta(days=1))
        builder = builder.not_valid_after(now + dt.timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, name: str, key: ec.EllipticCurvePrivateKey, found: x509.Certificate) -> tuple[str, str]:
        certificate, secret = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        certificate.write_bytes(found.public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8
        secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        return str(certificate), str(secret)


def test_systemd_hands_over_a_socket_and_hears_when_it_is_served(root: Path, tmp_path: Path) -> None:
    """sd_listen_fds(3), sd_notify(3)."""
    path = tmp_path / "passed.sock"
    with (
        socket.socket(socket.AF_UNIX) as passed,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices,
    ):
        passed.bind(str(path))
        passed.listen()
        notices.bind(str(tmp_path / "notify"))
        notices.settimeout(PATIENCE)
        words = Pybuild(root).words("daemon", "-H", "fd://", "-H", "tcp://127.0.0.1:0")
        start = f"import os; os.dup2({passed.fileno()}, 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
        command = [sys.executable, "-c", start + "import sys; os.execv(sys.argv[1], sys.argv[1:])", *words]
        environment = {**os.environ, "LISTEN_FDS": "1", "NOTIFY_SOCKET": str(tmp_path / "notify")}
        with daemon(command, env=environment, pass_fds=(passed.fileno(),)) as addresses:
            assert notices.recv(100) == b"READY=1"
            assert addresses[0] == f"unix://{path}"
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=PATIENCE) as client:
                assert client.get("http://localhost/_ping").text == "OK"
            by_tcp = addresses[1].replace("tcp://", "http://")
            with httpx.Client(timeout=PATIENCE) as client:
                assert client.get(f"{by_tcp}/_ping").text == "OK"
                for host in ("evil.example.com", "evil.example.com:80"):
                    found = client.get(f"{by_tcp}/containers/json", headers={"Host": host})
                    assert (found.status_code, "this daemon is not" in found.text) == (403, True)
        assert notices.recv(100) == b"STOPPING=1"
    assert path.exists()  # it is systemd's


def test_clients_show_a_certificate_of_the_right_authority(root: Path, tmp_path: Path) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    ours.mkdir()
    others.mkdir()
    authority, stranger = Authority(ours), Authority(others)
    certificate, key = authority.issue("server")
    tls = ["--tlsverify", "--tlscacert", str(ours / "ca.pem"), "--tlscert", certificate, "--tlskey", key]
    words = Pybuild(root).words("daemon", "-H", "tcp://127.0.0.1:0", *tls)
    with daemon(words) as (address,):
        url = address.replace("tcp://", "https://") + "/_ping"
        for shown, accepted in ((authority.issue("client"), True), (stranger.issue("client"), False), (None, False)):
            context = ssl.create_default_context(cafile=str(ours / "ca.pem"))
            if shown:
                context.load_cert_chain(*shown)
            with httpx.Client(verify=context, timeout=PATIENCE) as client:
                if accepted:
                    assert client.get(url).text == "OK"
                else:
                    with pytest.raises(httpx.TransportError):
                        client.get(url)
