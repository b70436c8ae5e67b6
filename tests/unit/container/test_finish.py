"""Steps just before execve that can be looked at alone."""

import pytest

from runner.container.finish import clamp, environment_of


class TestEnvironment:
    def test_a_later_entry_wins_in_the_place_of_the_first(self) -> None:
        assert list(environment_of(["A=1", "B=2", "A=3"], "/root").items()) == [
            ("A", "3"),
            ("B", "2"),
            ("HOME", "/root"),
        ]

    def test_home_is_the_users_unless_given(self) -> None:
        assert environment_of(["HOME=/app"], "/root") == {"HOME": "/app"}
        assert environment_of(["HOME="], "/root") == {"HOME": "/root"}

    def test_what_is_no_assignment_is_left_out(self) -> None:
        assert environment_of(["A", "=x", "B=", "C=a=b"], "/") == {"B": "", "C": "a=b", "HOME": "/"}


@pytest.mark.parametrize(
    ("soft", "hard", "granted", "got"),
    [
        (1024, 2048, 4096, (1024, 2048)),
        (1024, 8192, 4096, (1024, 4096)),
        (8192, 8192, 4096, (4096, 4096)),
        (-1, -1, 4096, (4096, 4096)),
        (-1, -1, -1, (-1, -1)),
        (100, -1, -1, (100, -1)),
        (200, 100, -1, (100, 100)),
    ],
)
def test_a_limit_is_lowered_to_what_the_host_grants(soft: int, hard: int, granted: int, got: tuple[int, int]) -> None:
    assert clamp(soft, hard, granted) == got
