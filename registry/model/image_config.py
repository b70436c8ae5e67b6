"""The configuration of an image (image-spec config.md), with the keys that Docker adds to it.

Docker-only keys (Healthcheck, OnBuild, Shell, ArgsEscaped): moby/docker-image-spec.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from registry.errors import ManifestInvalid
from registry.model.digest import Digest
from registry.model.platform import Platform


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """How to test that a container works. Times in nanoseconds; 0 means the default of whoever runs it."""

    test: tuple[str, ...] = ()  # ("NONE",), ("CMD", …) or ("CMD-SHELL", line); empty inherits
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What to run and how, `config` in the JSON. None for a command means it is not set, () that it is set empty."""

    user: str = ""
    exposed_ports: tuple[str, ...] = ()  # "80/tcp"
    env: tuple[str, ...] = ()  # "NAME=value", in order
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()
    args_escaped: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """`env` as a mapping; the last of equal names wins."""
        return dict(entry.partition("=")[::2] for entry in self.env)


@dataclass(frozen=True, slots=True)
class History:
    """One step of an image's making; `empty_layer` if it added no layer."""

    created: str | None = None  # RFC 3339
    created_by: str = ""
    comment: str = ""
    author: str = ""
    empty_layer: bool = False


@dataclass(frozen=True, slots=True)
class RootFs:
    diff_ids: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """A platform, what to run, and the diff IDs of the layers it runs on."""

    platform: Platform
    config: RunConfig = field(default_factory=RunConfig)
    rootfs: RootFs = field(default_factory=RootFs)
    history: tuple[History, ...] = ()
    created: str | None = None  # RFC 3339
    author: str = ""

    def to_bytes(self) -> bytes:
        """Canonical JSON: equal values give equal bytes, so equal image IDs."""
        found: dict[str, Any] = {"architecture": self.platform.architecture}
        if self.author:
            found["author"] = self.author
        found["config"] = _run_config_json(self.config)
        if self.created:
            found["created"] = self.created
        found["history"] = [_history_json(step) for step in self.history]
        found["os"] = self.platform.os
        if self.platform.os_version:
            found["os.version"] = self.platform.os_version
        found["rootfs"] = {"type": "layers", "diff_ids": [str(diff_id) for diff_id in self.rootfs.diff_ids]}
        if self.platform.variant:
            found["variant"] = self.platform.variant
        try:
            return json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode()
        except UnicodeEncodeError as error:  # a lone surrogate: bytes of a file name or an argument that were no UTF-8
            wrong = error.object[max(0, error.start - 20) : error.end + 20]
            raise ManifestInvalid(
                f"not UTF-8 in an image's configuration: {wrong!r}", hint="JSON holds text only"
            ) from None

    @classmethod
    def parse(cls, content: bytes) -> "ImageConfig":
        """Read the config blob of an image. Raises ManifestInvalid, DigestInvalid."""
        try:
            body = _DECODER.decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ManifestInvalid(
                f"not an image configuration: {error}", hint="the image is broken; build or fetch it again"
            ) from None
        return body.checked()


def _run_config_json(run: RunConfig) -> dict[str, Any]:
    """Keys in the order of Docker's own output; what is not set is left out."""
    found: dict[str, Any] = {}
    if run.user:
        found["User"] = run.user
    if run.exposed_ports:
        found["ExposedPorts"] = {port: {} for port in sorted(run.exposed_ports)}
    if run.env:
        found["Env"] = list(run.env)
    if run.entrypoint is not None:
        found["Entrypoint"] = list(run.entrypoint)
    if run.cmd is not None:
        found["Cmd"] = list(run.cmd)
    if run.healthcheck is not None:
        check = run.healthcheck
        pairs = {
            "Test": list(check.test), "Interval": check.interval, "Timeout": check.timeout,
            "StartPeriod": check.start_period, "StartInterval": check.start_interval, "Retries": check.retries,
        }  # fmt: skip
        found["Healthcheck"] = {key: value for key, value in pairs.items() if value}
    if run.args_escaped:
        found["ArgsEscaped"] = True
    if run.volumes:
        found["Volumes"] = {volume: {} for volume in sorted(run.volumes)}
    if run.working_dir:
        found["WorkingDir"] = run.working_dir
    if run.on_build:
        found["OnBuild"] = list(run.on_build)
    if run.labels:
        found["Labels"] = dict(sorted(run.labels.items()))
    if run.stop_signal:
        found["StopSignal"] = run.stop_signal
    if run.shell:
        found["Shell"] = list(run.shell)
    return found


def _history_json(step: History) -> dict[str, Any]:
    pairs = {
        "created": step.created, "created_by": step.created_by, "author": step.author,
        "comment": step.comment, "empty_layer": step.empty_layer,
    }  # fmt: skip
    return {key: value for key, value in pairs.items() if value}


# Go, in which most writers of these are written, reads null as absent and one string as a list of one. So do we.
_Words = list[str] | str | None


def _words(found: _Words) -> tuple[str, ...]:
    return (found,) if isinstance(found, str) else tuple(found or ())


class _HealthcheckJson(msgspec.Struct, rename="pascal"):
    test: _Words = None
    interval: int | None = None
    timeout: int | None = None
    start_period: int | None = None
    start_interval: int | None = None
    retries: int | None = None

    def checked(self) -> Healthcheck:
        return Healthcheck(
            _words(self.test),
            self.interval or 0,
            self.timeout or 0,
            self.start_period or 0,
            self.start_interval or 0,
            self.retries or 0,
        )


class _RunConfigJson(msgspec.Struct, rename="pascal"):
    user: str | None = None
    exposed_ports: dict[str, Any] | None = None
    env: list[str] | None = None
    entrypoint: _Words = None
    cmd: _Words = None
    volumes: dict[str, Any] | None = None
    working_dir: str | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    healthcheck: _HealthcheckJson | None = None
    on_build: list[str] | None = None
    shell: _Words = None
    args_escaped: bool | None = None

    def checked(self) -> RunConfig:
        return RunConfig(
            user=self.user or "",
            exposed_ports=tuple(self.exposed_ports or ()),
            env=tuple(self.env or ()),
            entrypoint=None if self.entrypoint is None else _words(self.entrypoint),
            cmd=None if self.cmd is None else _words(self.cmd),
            volumes=tuple(self.volumes or ()),
            working_dir=self.working_dir or "",
            labels=self.labels or {},
            stop_signal=self.stop_signal or "",
            healthcheck=self.healthcheck.checked() if self.healthcheck else None,
            on_build=tuple(self.on_build or ()),
            shell=_words(self.shell),
            args_escaped=bool(self.args_escaped),
        )


class _HistoryJson(msgspec.Struct):
    created: str | None = None
    created_by: str | None = None
    comment: str | None = None
    author: str | None = None
    empty_layer: bool | None = None

    def checked(self) -> History:
        return History(
            self.created, self.created_by or "", self.comment or "", self.author or "", bool(self.empty_layer)
        )


class _RootFsJson(msgspec.Struct):
    diff_ids: list[str] | None = None


class _ConfigJson(msgspec.Struct, rename={"os_version": "os.version"}):
    architecture: str | None = None
    os: str | None = None
    variant: str | None = None
    os_version: str | None = None
    config: _RunConfigJson | None = None
    rootfs: _RootFsJson | None = None
    history: list[_HistoryJson] | None = None
    created: str | None = None
    author: str | None = None

    def checked(self) -> ImageConfig:
        diff_ids = (self.rootfs.diff_ids if self.rootfs else None) or ()
        return ImageConfig(
            platform=Platform(self.os or "", self.architecture or "", self.variant or "", self.os_version or ""),
            config=self.config.checked() if self.config else RunConfig(),
            rootfs=RootFs(tuple(Digest.parse(text) for text in diff_ids)),
            history=tuple(step.checked() for step in self.history or ()),
            created=self.created,
            author=self.author or "",
        )


_DECODER = msgspec.json.Decoder(_ConfigJson)
