from tests.containers import boxes

__all__ = ["boxes"]
