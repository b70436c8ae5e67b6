"""Maps of files: what changed between two of them, and how small they are."""

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.cache.filemap import Difference, FileMap, FileState, content_of, differences, pack, unpack

FILE = stat.S_IFREG | 0o644


def tree(**contents: str) -> FileMap:
    return FileMap({path.replace("__", "/"): FileState(content_of(text), FILE) for path, text in contents.items()})


def test_names_what_was_changed_added_and_removed() -> None:
    before = tree(a="1", src__b="2", src__c="3")
    after = tree(a="1", src__b="two", src__d="4")
    assert differences(before, after) == [
        Difference("src/b", "content changed"),
        Difference("src/d", "added"),
        Difference("src/c", "removed"),
    ]


@pytest.mark.parametrize(
    ("now", "how"),
    [
        (FileState(1, stat.S_IFREG | 0o755), "mode 644 → 755"),
        (FileState(1, FILE, 1000, 1000), "owner 0:0 → 1000:1000"),
        (FileState(2, stat.S_IFREG | 0o600), "content changed, mode 644 → 600"),
        (FileState(2, stat.S_IFLNK | 0o777), "another kind of file"),
    ],
)
def test_tells_what_of_a_file_changed(now: FileState, how: str) -> None:
    assert differences(FileMap({"a": FileState(1, FILE)}), FileMap({"a": now})) == [Difference("a", how)]


def test_one_file_among_ten_thousand_is_named_and_the_map_is_small() -> None:
    files = {f"src/module{n // 100}/file{n}.py": FileState(content_of(n), FILE) for n in range(10_000)}
    changed = {**files, "src/module47/file4711.py": FileState(content_of("new"), FILE)}
    before, after = pack(FileMap(files)), pack(FileMap(changed))
    assert differences(unpack(before), unpack(after)) == [Difference("src/module47/file4711.py", "content changed")]
    assert len(before) < 160_000


def test_of_too_many_files_the_directory_is_named() -> None:
    files = {f"{n % 10}/{n // 10 % 10}/{n}": FileState(content_of(n), FILE) for n in range(1000)}
    changed = {**files, "3/2/123": FileState(content_of("new"), FILE)}
    before, after = (unpack(pack(FileMap(each), most=100)) for each in (files, changed))
    assert differences(before, after) == [Difference("3/2/", "changed")]


def test_a_map_of_directories_can_be_held_against_a_map_of_files() -> None:
    files = {f"{n % 10}/{n}": FileState(content_of(n), FILE) for n in range(100)}
    fewer = {path: state for path, state in files.items() if path != "7/77"}
    coarse = unpack(pack(FileMap(files), most=10))
    assert differences(coarse, FileMap(files)) == []
    assert differences(coarse, FileMap(fewer)) == [Difference("7/", "changed")]


def test_one_directory_of_too_many_files_is_one_entry() -> None:
    files = {str(n): FileState(content_of(n), FILE) for n in range(100)}
    assert list(unpack(pack(FileMap(files), most=10)).files) == ["/"]


@given(st.dictionaries(st.text(st.characters(exclude_characters="\0"), min_size=1), st.integers(0, 2**64 - 1)))
def test_comes_back_as_it_was(contents: dict[str, int]) -> None:
    found = FileMap({path.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape"): FileState(content, FILE)
                     for path, content in contents.items()})  # fmt: skip
    assert unpack(pack(found)) == found


@pytest.mark.parametrize("record", [b"", b"nonsense", pack(FileMap({}))[:-3]])
def test_what_is_no_map_is_refused(record: bytes) -> None:
    with pytest.raises(ValueError, match="not a map of files"):
        unpack(record)
