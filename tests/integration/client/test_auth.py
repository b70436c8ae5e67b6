"""Who we are, shown only to whom it concerns: challenges, tokens, logging in and out."""

import json
import ssl
import stat
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from registry.client import ClientSettings, Credentials, RegistrySettings, log_in, log_out, pull
from registry.errors import TransferError, Unauthorized
from registry.model import Digest, Reference
from registry.storage import ContentStore
from tests.integration.client.fake import FakeRegistry, Reply, Seen, json_reply

ME = Credentials("me", "hunter2")


def guard(fake: FakeRegistry, allowed: Callable[[Seen], bool], challenge: str) -> None:
    """Answer 401 to whoever is not allowed."""

    def answer(seen: Seen) -> Reply:
        return fake._proper(seen) if allowed(seen) else Reply(401, b"", {"WWW-Authenticate": challenge})

    for method in ("GET", "HEAD"):
        fake.on(method, "^/v2/", answer)


class TestBasic:
    @pytest.fixture(autouse=True)
    def guarded(self, fake: FakeRegistry) -> None:
        guard(fake, lambda seen: seen.headers.get("authorization") == ME.basic(), 'Basic realm="x"')

    def test_user_and_password_go_with_each_request(
        self, fake: FakeRegistry, store: ContentStore, settings: ClientSettings
    ) -> None:
        fake.add_image()
        pull(store, Reference.parse(f"{fake.domain}/app:1"), settings=settings, credentials=ME)
        assert "authorization" not in fake.requests[0].headers  # nobody had asked yet

    def test_without_any_the_error_says_how_to_log_in(
        self, fake: FakeRegistry, store: ContentStore, settings: ClientSettings
    ) -> None:
        with pytest.raises(Unauthorized) as caught:
            pull(store, Reference.parse(f"{fake.domain}/app:1"), settings=settings)
        assert caught.value.hint == f"log in with: pybuild login {fake.domain}"

    def test_wrong_ones_are_not_tried_for_ever_and_never_shown(
        self, fake: FakeRegistry, store: ContentStore, settings: ClientSettings
    ) -> None:
        with pytest.raises(Unauthorized) as caught:
            pull(
                store,
                Reference.parse(f"{fake.domain}/app:1"),
                settings=settings,
                credentials=Credentials("me", "pass1"),
            )
        assert "pass1" not in f"{caught.value} {caught.value.hint} {Credentials('me', 'pass1')!r}"
        assert len(fake.requests) < 8


class TestBearer:
    """distribution: docs/spec/auth/token.md."""

    @pytest.fixture(autouse=True)
    def guarded(self, fake: FakeRegistry) -> None:
        fake.add_image(layers=[b"one", b"two", b"three"])
        guard(
            fake,
            lambda seen: seen.headers.get("authorization") == "Bearer t0ken",
            f'Bearer realm="http://{fake.domain}/token",service="reg.example",scope="repository:app:pull"',
        )

    def run(self, fake: FakeRegistry, store: ContentStore, settings: ClientSettings, known: Credentials | None) -> None:
        pull(store, Reference.parse(f"{fake.domain}/app:1"), settings=settings, credentials=known)

    def test_one_token_serves_the_whole_pull(
        self, fake: FakeRegistry, store: ContentStore, settings: ClientSettings
    ) -> None:
        fake.on("GET", "^/token", json_reply({"token": "t0ken"}))
        self.run(fake, store, settings, ME)
        (asked,) = fake.seen("GET", "^/token")
        assert asked.query["scope"] == ["repository:app:pull"]
        assert asked.query["service"] == ["reg.example"]
        assert asked.query["account"] == ["me"]
        assert asked.headers["authorization"] == ME.basic()
        assert not [seen for seen in fake.seen("GET", "^/v2/") if "Basic" in seen.headers.get("authorization", "")]

    def test_anybody_may_have_an_anonymous_token(
        self, fake: FakeRegistry, store: ContentStore, settings: ClientSettings
    ) -> None:
        fake.on("GET", "^/token", json_reply({"access_token": "t0ken", "expires_in": 300}))
        self.run(fake, store, settings, None)
        assert "authorization" not in fake.seen("GET", "^/token")[0].headers

    def test_an_identity_token_is_traded_by_post(
        self, fake: FakeRegistry, store: ContentStore, settings: ClientSettings
    ) -> None:
        """distribution: docs/spec/auth/oauth.md."""
        fake.on("POST", "^/token", json_reply({"access_token": "t0ken"}))
        self.run(fake, store, settings, Credentials(identity_token="refresh-me"))
        form = parse_qs(fake.seen("POST", "^/token")[0].body.decode())
        assert form["grant_type"] == ["refresh_token"]
        assert form["refresh_token"] == ["refresh-me"]
        assert form["scope"] == ["repository:app:pull"]

    def test_a_token_that_went_stale_is_renewed(
        self, fake: FakeRegistry, store: ContentStore, settings: ClientSettings
    ) -> None:
        fake.on("GET", "^/token", json_reply({"token": "old"}), json_reply({"token": "t0ken"}))
        self.run(fake, store, settings, ME)
        assert len(fake.seen("GET", "^/token")) == 2

    def test_wrong_credentials(self, fake: FakeRegistry, store: ContentStore, settings: ClientSettings) -> None:
        fake.on("GET", "^/token", json_reply({"errors": []}, 401))
        with pytest.raises(Unauthorized, match="does not accept our credentials"):
            self.run(fake, store, settings, ME)

    @pytest.mark.parametrize("answer", [{}, {"token": ""}, {"token": "a\r\nX: y"}, [], "x", {"token": 5}])
    def test_an_answer_without_a_token(
        self, fake: FakeRegistry, store: ContentStore, settings: ClientSettings, answer: object
    ) -> None:
        fake.on("GET", "^/token", json_reply(answer))
        with pytest.raises(TransferError, match="gives no token"):
            self.run(fake, store, settings, ME)

    def test_a_broken_helper_does_not_bar_public_images(
        self, fake: FakeRegistry, store: ContentStore, settings: ClientSettings, no_credentials: Path
    ) -> None:
        no_credentials.parent.mkdir()
        no_credentials.write_text('{"credsStore": "not-installed"}')
        fake.on("GET", "^/token", json_reply({"token": "t0ken"}))
        self.run(fake, store, settings, None)

    def test_but_is_named_when_credentials_are_needed(
        self, fake: FakeRegistry, store: ContentStore, settings: ClientSettings, no_credentials: Path
    ) -> None:
        no_credentials.parent.mkdir()
        no_credentials.write_text('{"credsStore": "not-installed"}')
        fake.on("GET", "^/token", json_reply({}, 401))
        with pytest.raises(Unauthorized) as caught:
            self.run(fake, store, settings, None)
        assert "docker-credential-not-installed is not installed" in str(caught.value.hint)


class TestLogin:
    @pytest.fixture(autouse=True)
    def guarded(self, fake: FakeRegistry) -> None:
        guard(fake, lambda seen: seen.headers.get("authorization") == ME.basic(), 'Basic realm="x"')

    def test_what_the_registry_accepts_is_kept_for_the_owner_only(
        self, fake: FakeRegistry, settings: ClientSettings, no_credentials: Path
    ) -> None:
        assert log_in(fake.domain, ME, settings) == str(no_credentials)
        kept = json.loads(no_credentials.read_text())
        assert kept == {"auths": {fake.domain: {"auth": b64encode(b"me:hunter2").decode()}}}
        assert stat.S_IMODE(no_credentials.stat().st_mode) == 0o600

    def test_what_it_refuses_is_not(self, fake: FakeRegistry, settings: ClientSettings, no_credentials: Path) -> None:
        with pytest.raises(Unauthorized):
            log_in(fake.domain, Credentials("me", "wrong"), settings)
        assert not no_credentials.exists()

    def test_a_pull_finds_them_again_until_we_log_out(
        self, fake: FakeRegistry, store: ContentStore, settings: ClientSettings
    ) -> None:
        fake.add_image()
        reference = Reference.parse(f"{fake.domain}/app:1")
        log_in(fake.domain, ME, settings)
        assert pull(store, reference, settings=settings) == Digest.of(fake.manifests["app/1"][0])
        assert log_out(fake.domain)
        assert not log_out(fake.domain)
        with pytest.raises(Unauthorized):
            pull(store, reference, settings=settings)


class TestMirrors:
    def test_a_mirror_comes_first_and_gets_its_own_credentials_only(
        self, fake: FakeRegistry, new_fake: Callable[..., FakeRegistry], store: ContentStore, settings: ClientSettings,
        no_credentials: Path,
    ) -> None:  # fmt: skip
        mirror = new_fake()
        mirror.add_image("hub/app")
        guard(mirror, lambda seen: "authorization" in seen.headers, 'Basic realm="x"')
        kept = {mirror.domain: {"auth": b64encode(b"m:m").decode()}, fake.domain: {"auth": ME.basic()[6:]}}
        no_credentials.parent.mkdir()
        no_credentials.write_text(json.dumps({"auths": kept}))
        mirrored = RegistrySettings(mirrors=(f"{mirror.domain}/hub",))
        settings = ClientSettings(registries={fake.domain: mirrored}, pause=settings.pause)
        pull(store, Reference.parse(f"{fake.domain}/app:1"), settings=settings)
        assert fake.requests == []
        given = {seen.headers.get("authorization") for seen in mirror.requests}
        assert given == {None, Credentials("m", "m").basic()}
        assert mirror.seen("HEAD", "/manifests/1")[0].query == {"ns": [fake.domain]}

    def test_the_registry_itself_helps_out(
        self, fake: FakeRegistry, new_fake: Callable[..., FakeRegistry], store: ContentStore, settings: ClientSettings
    ) -> None:
        mirror = new_fake()
        mirror.close()
        fake.add_image()
        mirrored = RegistrySettings(mirrors=(mirror.domain,))
        settings = ClientSettings(registries={fake.domain: mirrored}, pause=settings.pause)
        assert pull(store, Reference.parse(f"{fake.domain}/app:1"), settings=settings)


class TestEncryption:
    """An address that is not this machine's own: http is refused, certificates count."""

    ADDRESS = "10.77.0.1"

    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's registry")])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(self.ADDRESS))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        file = tmp_path / "registry.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
        return file

    @pytest.fixture
    def tls(self, certificate: Path, new_fake: Callable[..., FakeRegistry], netns: None) -> FakeRegistry:
        self.add_address()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        fake = new_fake(self.ADDRESS, context)
        fake.add_image()
        return fake

    def add_address(self) -> None:
        import ipaddress
        import socket

        from runner.kernel.netlink import Netlink, new_address

        with Netlink() as netlink:
            netlink.run(new_address(socket.if_nametoindex("lo"), ipaddress.IPv4Interface(f"{self.ADDRESS}/24")))

    def run(self, store: ContentStore, fake: FakeRegistry, **registry: object) -> Digest:
        settings = ClientSettings(registries={fake.domain: RegistrySettings(**registry)}, pause=lambda _: None)
        return pull(store, Reference.parse(f"{fake.domain}/app:1"), settings=settings)

    def test_an_unknown_certificate_is_refused_with_a_way_out(self, tls: FakeRegistry, store: ContentStore) -> None:
        with pytest.raises(TransferError) as caught:
            self.run(store, tls)
        assert "registries.toml" in str(caught.value.hint)
        assert tls.requests == []

    def test_a_ca_of_ones_own(self, tls: FakeRegistry, store: ContentStore, certificate: Path) -> None:
        assert self.run(store, tls, ca=str(certificate))

    def test_ssl_cert_file(
        self, tls: FakeRegistry, store: ContentStore, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert self.run(store, tls)

    def test_an_insecure_one_needs_no_good_certificate(self, tls: FakeRegistry, store: ContentStore) -> None:
        assert self.run(store, tls, insecure=True)

    def test_a_redirect_from_https_to_http_is_refused(
        self, tls: FakeRegistry, store: ContentStore, certificate: Path, new_fake: Callable[..., FakeRegistry]
    ) -> None:
        plain = new_fake()
        tls.on("GET", "/blobs/", Reply(307, b"", {"Location": f"http://{plain.domain}/x"}))
        with pytest.raises(TransferError, match="from https to http"):
            self.run(store, tls, ca=str(certificate))
        assert plain.requests == []

    def test_a_realm_on_http_is_refused(
        self, tls: FakeRegistry, store: ContentStore, certificate: Path, new_fake: Callable[..., FakeRegistry]
    ) -> None:
        """CVE-2019-10214: a token, and the password for it, in the clear."""
        plain = new_fake()
        guard(tls, lambda seen: False, f'Bearer realm="http://{plain.domain}/token",service="x"')
        with pytest.raises(TransferError, match="from https to http"):
            self.run(store, tls, ca=str(certificate))
        assert plain.requests == []

    def test_on_this_machine_any_certificate_will_do(
        self, new_fake: Callable[..., FakeRegistry], store: ContentStore, certificate: Path
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        fake = new_fake("127.0.0.1", context)
        fake.add_image()
        assert self.run(store, fake)
        with pytest.raises(TransferError):
            self.run(store, fake, ca=str(certificate))  # unless a CA is named: this one is for another address

    def test_plain_http_is_for_listed_registries_only(
        self, store: ContentStore, new_fake: Callable[..., FakeRegistry], netns: None
    ) -> None:
        self.add_address()
        plain = new_fake(self.ADDRESS)
        plain.add_image()
        with pytest.raises(TransferError):
            self.run(store, plain)
        assert plain.requests == []
        assert self.run(store, plain, insecure=True)
