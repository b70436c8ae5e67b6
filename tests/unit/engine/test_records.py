"""Containers on disk: whole or absent, one for each name."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pybuild.engine.names import check_name, new_id, random_name
from pybuild.engine.options import RunOptions
from pybuild.engine.records import NetworkRecord, PublishedPort, Record, Records
from pybuild.errors import Conflict, NotFound, UsageError


def record(name: str = "") -> Record:
    return Record(
        id=new_id(), name=name, created="2026-01-01T00:00:00Z", image="app", image_id="sha256:1", entrypoint=(),
        cmd=("true",), env=(), working_dir="/", user="", labels={"a": "b"}, exposed_ports=(), stop_signal="SIGTERM",
        stop_timeout=10, options=RunOptions(image="app"),
    )  # fmt: skip


def added(records: Records, new: Record) -> Record:
    records.announce(new.id)
    return records.add(new)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path)


def test_what_is_kept_comes_back(records: Records) -> None:
    kept = added(records, record("web"))
    assert records.load(kept.id) == kept
    assert records.ids() == [kept.id]


def test_a_name_is_made_up_when_none_is_given(records: Records) -> None:
    name = added(records, record()).name
    assert check_name(name) == name
    assert "_" in name


def test_found_by_name_id_and_beginning_of_an_id(records: Records) -> None:
    kept = added(records, record("web"))
    assert {records.find(text) for text in ("web", "/web", kept.id, kept.id[:7])} == {kept.id}
    for text in ("we", "nobody", ""):
        with pytest.raises(NotFound):
            records.find(text)


def test_a_beginning_that_fits_several_is_refused(records: Records) -> None:
    for number in range(2):
        added(records, replace(record(), id="ab" * 31 + f"{number:02}"))
    with pytest.raises(NotFound, match="several"):
        records.find("abab")


def test_a_taken_name_is_refused_and_leaves_nothing(records: Records) -> None:
    first = added(records, record("web"))
    with pytest.raises(Conflict, match=first.id):
        added(records, record("web"))
    assert records.ids() == [first.id]


def test_what_was_announced_can_be_withdrawn(records: Records) -> None:
    records.announce("a" * 64)
    records.withdraw("a" * 64)
    assert sorted(os.listdir(records.directory)) == ["names"]


def test_one_of_many_gets_a_name(records: Records) -> None:
    outcomes: list[str] = []

    def attempt() -> None:
        try:
            outcomes.append(added(records, record("web")).name)
        except Conflict:
            outcomes.append("")

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [""] * 7 + ["web"]


def test_the_name_of_a_maker_that_died_is_free(records: Records) -> None:
    added(records, record("other"))
    (records.directory / "names" / "web").symlink_to("f" * 64)
    assert added(records, record("web")).name == "web"


def test_removal_frees_the_name_at_once_and_can_be_repeated(records: Records) -> None:
    kept = added(records, record("web"))
    for _ in range(2):
        records.remove(kept.id, "web")
    assert added(records, record("web")).name == "web"
    assert records.leftovers() == [kept.id]
    records.erase(kept.id)
    assert records.leftovers() == []


def test_only_one_at_a_time_and_none_when_it_is_gone(records: Records) -> None:
    kept = added(records, record("web"))
    with records.locked(kept.id) as ours, records.locked(kept.id, wait=False) as others:
        assert (ours, others) == (True, False)
    records.remove(kept.id, "web")
    with pytest.raises(NotFound), records.locked(kept.id):
        pass


def test_the_network_is_known_while_it_is_attached(records: Records) -> None:
    kept = added(records, record("web"))
    network = NetworkRecord("bridge", "172.17.0.2", 16, "172.17.0.1", "02:42", (PublishedPort(80, "tcp", "", 8080),))
    records.set_network(kept.id, network)
    assert records.network(kept.id) == network
    records.set_network(kept.id, None)
    assert records.network(kept.id) is None


def test_what_a_living_process_is_making_is_no_leftover(records: Records) -> None:
    records.directory.mkdir()
    from runner.container.state import start_time

    (records.directory / f".new-{'a' * 64}.{os.getpid()}.{start_time(os.getpid())}").mkdir()
    (records.directory / f".new-{'b' * 64}.{os.getpid()}.1").mkdir()
    assert records.leftovers() == ["b" * 64]


@pytest.mark.parametrize("name", ["", "a", "-ab", "a b", "a/b", ".ab", "ä" * 5, "a" * 256])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)


def test_made_up_names_get_a_number_when_they_clash() -> None:
    assert random_name(5)[-1].isdigit()
