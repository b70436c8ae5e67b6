"""Numbers and addresses that nobody means are errors that tell the line, and nothing worse."""

from typing import TYPE_CHECKING

import pytest

from builder.dockerfile.instructions import DockerfileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.plan.planner import Plan

LONG = "9" * 5000  # Python refuses to read a number that long


@pytest.mark.parametrize(
    "line",
    [
        f"EXPOSE {LONG}", f"EXPOSE 1-{LONG}", f"STOPSIGNAL {LONG}", f"COPY --from={LONG} f /",
        f"RUN --mount=from={LONG},target=/x true", f"HEALTHCHECK --retries={LONG} CMD x",
        f"HEALTHCHECK --interval={LONG}s CMD x", f"RUN --mount=type=tmpfs,target=/t,size={LONG}g true",
        "RUN --mount=type=tmpfs,target=/t,size=9999999999999999999p true", f"ADD --chmod={LONG} f /",
        "RUN --mount=type=cache,target=/c,uid=4294967295 true", "RUN --mount=type=secret,id=s,gid=9999999999 true",
        "ARG N=9999999999\nRUN --mount=type=cache,target=/c,uid=$N true", "ADD http://[::1 /", "ADD https://[/x.tar /",
    ],
)  # fmt: skip
def test_are_refused(plan: "Callable[..., Plan]", line: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        plan(f"FROM debian\n{line}\n")
    assert caught.value.at.line >= 2


def test_zeros_in_front_are_fine(plan: "Callable[..., Plan]") -> None:
    config = plan("FROM debian\nEXPOSE 00080\nSTOPSIGNAL 09\n").config.config
    assert list(config.exposed_ports) == ["80/tcp"]
