"""Dockerfiles of every rule, and what the frontend of BuildKit v0.34.2 (dockerfile2llb) made of each.

Recorded are the image's config, its history, and of each RUN the command, variables, directory, user and mounts; or its
refusal. The base image was one for linux/amd64 that sets PATH=/bin, unless a case has another.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from builder.dockerfile import parse_dockerfile
from builder.dockerfile.instructions import DockerfileError, Position
from builder.plan.options import BaseImage, PlanOptions
from builder.plan.planner import Plan, make_plan
from builder.plan.vertices import RunOp, in_order
from registry.errors import RegistryError
from registry.model import Descriptor, Digest, ImageConfig, Platform, Reference
from tests.conformance.rules import on_purpose

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "buildkits_answers.json").read_text("utf-8"))
AMD64 = Platform("linux", "amd64")
ON_PURPOSE = on_purpose()
NETWORKS = {"default": 0, "host": 1, "none": 2}
SECURITIES = {"sandbox": 0, "insecure": 1}


PLAIN = {"Env": ["PATH=/bin"]}


class Images:
    """`debian`, and an ordinary one for every other name."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.debian, self.others = self.image(config), self.image(PLAIN)

    @staticmethod
    def image(config: dict[str, Any]) -> BaseImage:
        layer = Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", Digest.of(b"layer"), 9)
        rootfs = {"type": "layers", "diff_ids": [str(Digest.of(b"diff"))]}
        content = {"architecture": "amd64", "os": "linux", "config": config, "rootfs": rootfs}
        image = ImageConfig.parse(json.dumps(content).encode())
        return BaseImage("base", Digest.of(b"base"), (layer,), image)

    def resolve(self, name: str, at: Position, platform: Platform) -> BaseImage:
        assert platform == AMD64
        try:
            Reference.parse(name)
        except RegistryError as error:
            raise DockerfileError(str(error), at=at) from None
        return self.debian if name == "debian" else self.others


def planned(case: dict[str, Any]) -> Plan:
    options = PlanOptions(
        target=case.get("target", ""), build_args=case.get("args", {}), labels=case.get("labels", {}), platform=AMD64,
        allow=frozenset({"network.host", "security.insecure"}),
    )  # fmt: skip
    return make_plan(parse_dockerfile(case["dockerfile"]), options, Images(case.get("base", PLAIN)))


def answer(plan: Plan) -> dict[str, Any]:
    """Told as BuildKit's are, without what says nothing."""
    config = {key: value for key, value in json.loads(plan.config.to_bytes())["config"].items() if value}
    config.pop("ArgsEscaped", None)
    if config.get("Env") == ["PATH=/bin"]:
        del config["Env"]
    ops = [vertex.op for vertex in in_order([plan.result]) if isinstance(vertex.op, RunOp)]
    found = {
        "config": config,
        "author": plan.config.author,
        "history": [[step.history.created_by, step.history.empty_layer] for step in plan.steps],
        "runs": [command(op) for op in ops],
    }
    return {key: value for key, value in found.items() if value}


def command(op: RunOp) -> dict[str, Any]:
    env = sorted(f"{name}={value}" for name, value in op.env)
    found = {
        "args": list(op.args),
        "env": env if env != ["PATH=/bin"] else [],
        "cwd": op.cwd if op.cwd != "/" else "",
        "user": op.user,
        "network": NETWORKS[op.network],
        "security": SECURITIES[op.security],
        "mounts": [[mount.type, mount.target] for mount in op.mounts],
    }
    return {key: value for key, value in found.items() if value or key == "args"}


@pytest.mark.parametrize("case", RECORDED, ids=[f"{number}-{case['about']}" for number, case in enumerate(RECORDED)])
def test_the_answer_is_the_same(case: dict[str, Any]) -> None:
    theirs = {key: case[key] for key in ("config", "author", "history", "runs", "refused") if key in case}
    try:
        ours = answer(planned(case))
    except DockerfileError as error:
        ours = {"refused": error.problem}
    if case["dockerfile"] in ON_PURPOSE:
        assert ours != theirs  # what no longer differs needs no reason
    elif "refused" in theirs:
        assert ours.keys() == {"refused"}
    else:
        assert ours == theirs


def test_each_difference_belongs_to_a_case() -> None:
    assert set(ON_PURPOSE) - {case["dockerfile"] for case in RECORDED} == set()
