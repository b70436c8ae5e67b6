"""`user[:group]` as docker resolves it, from the container's own files."""

import pytest

from runner.container.users import Identity, identity
from runner.errors import RunnerError

FILES = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nbroken\nbin:x:2:3:bin:/home/bin:/bin/sh\n"
    "#off:x:9:9::/:\nbare:x:7:7:::\n",
    "/etc/group": "root:x:0:root\ndaemon:x:3:\nbin:x:2:\nextra:x:77:root,bin\nodd:x:no:bin\n",
}


def who(user: str, *extra: str, files: dict[str, str] = FILES) -> Identity:
    return identity(user, extra, lambda path: files.get(path, ""))


class TestUser:
    def test_nobody_in_particular_is_root(self) -> None:
        assert who("") == Identity(0, 0, (0, 77), "/root")

    def test_a_name_has_its_primary_group_and_those_that_list_it(self) -> None:
        """CVE-2022-36109: the primary group is among the supplementary ones."""
        assert who("bin") == Identity(2, 3, (3, 77), "/home/bin")

    def test_a_number_that_has_an_entry_is_that_user(self) -> None:
        assert who("2") == who("bin")

    def test_a_number_without_an_entry_needs_no_file(self) -> None:
        assert who("1000", files={}) == Identity(1000, 0, (0,), "/")

    def test_a_group_that_is_given_stands_alone(self) -> None:
        assert who("bin:extra") == Identity(2, 77, (77,), "/home/bin")
        assert who("1000:1000") == Identity(1000, 1000, (1000,), "/")

    def test_more_groups_by_name_or_number(self) -> None:
        assert who("bin", "daemon", "4711").groups == (3, 77, 4711)

    def test_an_empty_home_is_the_root_directory(self) -> None:
        assert who("bare").home == "/"


class TestRefused:
    """CVE-2026-30892: what is not entirely a name or a number is nobody, above all not root."""

    @pytest.mark.parametrize("user", ["1000:", ":100", ":", "1000:1:2", " root", "root\n"])
    def test_malformed(self, user: str) -> None:
        with pytest.raises(RunnerError, match="invalid user"):
            who(user)

    @pytest.mark.parametrize("user", ["1000x", "0x0", "-1", "+0", "1e3", "٣", "off", "#off", "broken"])
    def test_unknown(self, user: str) -> None:
        with pytest.raises(RunnerError, match="unable to find user"):
            who(user)

    @pytest.mark.parametrize("user", ["2147483648", "4294967295", "4294967296", "9" * 30])
    def test_out_of_range(self, user: str) -> None:
        with pytest.raises(RunnerError, match="out of range"):
            who(user)

    @pytest.mark.parametrize("group", ["none", "odd", "12x"])
    def test_unknown_group(self, group: str) -> None:
        with pytest.raises(RunnerError, match="unable to find group"):
            who(f"root:{group}")
        with pytest.raises(RunnerError, match="unable to find group"):
            who("root", group)
