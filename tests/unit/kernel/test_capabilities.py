import pytest

from runner.container.defaults import CAPABILITIES
from runner.kernel import capabilities


def test_dockers_default_set_is_this_number() -> None:
    """As /proc/self/status shows it in every default container."""
    assert capabilities.mask(CAPABILITIES) == 0xA80425FB


@pytest.mark.parametrize("name", ["CAP_NET_ADMIN", "NET_ADMIN", "net_admin", "cap_net_admin"])
def test_names_as_users_write_them(name: str) -> None:
    assert capabilities.parse(name) == "CAP_NET_ADMIN"


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="FLY"):
        capabilities.mask(["CAP_FLY"])


def test_names_and_numbers_agree_both_ways() -> None:
    assert capabilities.names(capabilities.mask(CAPABILITIES)) == tuple(sorted(CAPABILITIES, key=_number))


def _number(name: str) -> int:
    return capabilities.mask([name])
