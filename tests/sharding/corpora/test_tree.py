"""Files of a tree: all of them, nothing from outside, and what is left out is told."""

import os
from pathlib import Path

import pytest

from sharding.corpora.tree import read_tree, refusal


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def names(root: Path) -> list[tuple[str, ...]]:
    return [entry.names for entry in read_tree(root, (".mp4",)).files]


def test_files_at_any_depth_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b/2.mp4", "b/10.mp4", "a/x/1.MP4", "a.mp4", "a/x/1.txt", "b/README", "c.d/e.f.mp4"):
        touch(tmp_path / name)
    assert names(tmp_path) == [("a",), ("a", "x", "1"), ("b", "10"), ("b", "2"), ("c.d", "e.f")]


def test_links_out_of_the_tree_are_not_followed_and_told(tmp_path: Path) -> None:
    outside = touch(tmp_path / "outside/s/v/1.mp4")
    root = tmp_path / "root"
    inside = touch(root / "s/v/1.mp4")
    (root / "s/v/2.mp4").symlink_to(outside)
    (root / "t").symlink_to(tmp_path / "outside/s")
    (root / "s/v/3.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (root / "s/v/4.mp4").symlink_to(inside)
    (root / "s/v/README").symlink_to(outside)
    (root / "again").symlink_to(root / "s")
    (root / "loop").symlink_to(root / "loop")
    tree = read_tree(root, (".mp4",))
    assert [entry.names for entry in tree.files] == [("s", "v", "1"), ("s", "v", "4")]
    left_out = {(out.entry.names, out.is_folder, out.reason) for out in tree.left_out}
    assert left_out == {
        (("s", "v", "2"), False, "outside_source"),
        (("s", "v", "3"), False, "outside_source"),
        (("t",), True, "outside_source"),
        (("loop",), True, "link_loop"),
    }
    refused = refusal(root / "s/v/2.mp4", root, follow_links=False)
    assert refused is not None
    assert refused[0] == "outside_source"
    assert refusal(root / "s/v/2.mp4", root, follow_links=True) is None
    assert refusal(root / "s/v/4.mp4", root, follow_links=False) is None


def test_the_root_may_be_a_link_itself(tmp_path: Path) -> None:
    touch(tmp_path / "real/a.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert names(tmp_path / "link") == [("a",)]
    assert read_tree(tmp_path / "link", (".mp4",)).left_out == ()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path) -> None:
    touch(tmp_path / "shut/a.mp4")
    (tmp_path / "shut").chmod(0)
    try:
        (out,) = read_tree(tmp_path, (".mp4",)).left_out
    finally:
        (tmp_path / "shut").chmod(0o700)
    assert (out.reason, out.is_folder) == ("unreadable", True)


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    try:
        touch(tmp_path / name)
    except OSError:
        pytest.skip("this file system stores only UTF-8")
    assert names(tmp_path) == [("caf\\xe9",)]
