from tests.containers import boxes
from tests.integration.builds.conftest import base, bench

__all__ = ["base", "bench", "boxes"]
