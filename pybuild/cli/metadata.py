"""`--metadata-file`: what a build came to, under the keys of buildx."""

import os
from base64 import b64encode
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.build import BuildResult
    from builder.checks.findings import Finding


def metadata(result: "BuildResult") -> dict[str, object]:
    """The build's checks are told if `BUILDX_METADATA_WARNINGS` asks for them, as with buildx."""
    found: dict[str, object] = {
        "buildx.build.ref": f"pybuild/local/{result.log}",
        "containerimage.descriptor": result.descriptor.to_json(),
        "containerimage.digest": str(result.digest),
    }
    if result.image_id != result.digest:  # an index has no config
        found["containerimage.config.digest"] = str(result.image_id)
    if result.tags:
        found["image.name"] = ",".join(
            f"{tag.domain}/{tag.path}" + (f":{tag.tag}" if tag.tag else f"@{tag.digest}") for tag in result.tags
        )
    if os.environ.get("BUILDX_METADATA_WARNINGS", "").lower() in {"1", "true"}:
        found["buildx.build.warnings"] = [_warning(finding) for finding in result.findings]
    return dict(sorted(found.items()))


def _warning(finding: "Finding") -> dict[str, object]:
    """As BuildKit's VertexWarning: texts are bytes there, which JSON has in base 64."""
    line = {"line": finding.at.line}
    return {
        "level": 1,
        "short": b64encode(str(finding).encode()).decode(),
        "detail": [b64encode(finding.about.description.encode()).decode()],
        "url": finding.about.url,
        "range": [{"start": line, "end": line}],
    }
