"""Files of a tree: all of them, nothing from outside, and what is left out is told."""

import os
import socket
from pathlib import Path

import pytest

from sharding.corpora.tree import Tree, read_tree, refusal
from tests.pipes import pipe


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


def left_out(tree: Tree) -> dict[str, tuple[str, bool]]:
    return {"/".join(out.entry.names): (out.reason, out.is_folder) for out in tree.left_out}


HIDDEN = (
    *(".DS_Store", ".Trashes/501/x/9.mp4", "._s", "s/._v", "s/v/._1.mp4", "s/v/@eaDir/1.mp4/SYNOVIDEO.mp4"),
    *(".snapshot/daily/s/v/1.mp4", "#recycle/s/v/1.mp4", "lost+found/#12/v/1.mp4", "__MACOSX/s/v/1.mp4"),
    *("System Volume Information/a/b/1.mp4", "$Recycle.Bin/S-1-5/x/1.mp4", ".git/annex/objects/1.mp4"),
    *("@Recycle/s/v/1.mp4", "#SNAPSHOT/s/v/1.mp4", "~snapshot/s/v/1.mp4", "s/v/Thumbs.db", ".hidden.mp4"),
)


def test_hidden_entries_and_a_systems_own_are_no_part_of_a_tree(tmp_path: Path) -> None:
    for name in (*HIDDEN, "s/v/1.mp4"):
        touch(tmp_path / name)
    (tmp_path / ".link.mp4").symlink_to(tmp_path / "nothing")
    (tmp_path / ".loop").symlink_to(tmp_path / ".loop")
    tree = read_tree(tmp_path, (".mp4",))
    assert [entry.names for entry in tree.files] == [("s", "v", "1")]
    assert (tree.left_out, tree.others) == ((), {})
    assert (tree.hidden, tree.first_hidden) == (len(HIDDEN) + 2, tmp_path / "#SNAPSHOT")
    assert f"{tree.hidden} hidden entries" in " ".join(tree.notes("--source", ()))


def test_a_hidden_root_is_what_was_asked_for(tmp_path: Path) -> None:
    touch(tmp_path / ".cache/lost+found/a.mp4")
    assert names(tmp_path / ".cache/lost+found") == [("a",)]


def test_a_link_into_a_hidden_folder(tmp_path: Path) -> None:
    """As git-annex has its files; a folder there is no part of the tree, and is not found by itself either."""
    touch(tmp_path / ".git/annex/1.mp4")
    (tmp_path / "s").mkdir()
    (tmp_path / "s/1.mp4").symlink_to("../.git/annex/1.mp4")
    (tmp_path / "t").symlink_to(".git/annex")
    tree = read_tree(tmp_path, (".mp4",))
    assert [entry.names for entry in tree.files] == [("s", "1")]
    assert left_out(tree) == {"t": ("outside_source", True)}
    followed = read_tree(tmp_path, (".mp4",), follow_links=True)
    assert [entry.names for entry in followed.files] == [("s", "1"), ("t", "1")]


def test_pipes_devices_and_sockets_are_no_files(tmp_path: Path) -> None:
    pipe(tmp_path / "pipe.mp4")
    pipe(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket.mp4"))
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    (tmp_path / "link.mp4").symlink_to("pipe.mp4")
    tree = read_tree(tmp_path, (".mp4",), follow_links=True)
    assert tree.files == ()
    assert left_out(tree) == dict.fromkeys(("pipe", "socket", "zero", "link"), ("not_a_file", False))
    assert tree.others == {"": 1}
    for name in ("pipe", "zero", "link"):
        refused = refusal(tmp_path / f"{name}.mp4", tmp_path, follow_links=True)
        assert refused is not None
        assert refused[0] == "not_a_file"


@pytest.mark.parametrize("follow_links", [False, True])
def test_links_that_lead_nowhere_or_in_a_circle(tmp_path: Path, follow_links: bool) -> None:
    touch(tmp_path / "s/1.mp4")
    for name, target in {
        "s/x.mp4": "x.mp4",  # itself
        "s/a.mp4": "b.mp4",
        "s/b.mp4": "a.mp4",
        "t": "u",  # folders, for all that one can tell
        "u": "t",
        "s/up": "..",  # leads to what is found anyway
        "away": "/nothing/here",
        "s/gone.mp4": "nothing.mp4",
        "s/gone.jpg": "nothing.jpg",
        "s/loop.jpg": "loop.jpg",
    }.items():
        (tmp_path / name).symlink_to(target)
    tree = read_tree(tmp_path, (".mp4",), follow_links=follow_links)
    assert [entry.names for entry in tree.files] == [("s", "1"), ("s", "gone")]  # to be told as missing
    assert left_out(tree) == {
        **{f"s/{name}": ("link_loop", False) for name in "xab"},
        **dict.fromkeys("tu", ("link_loop", True)),
        "away": ("broken_link", True),
    }
    assert tree.others == {".jpg": 2}
    refused = refusal(tmp_path / "s/x.mp4", tmp_path, follow_links=follow_links)
    assert refused is not None
    assert refused[0] == "link_loop"


def test_links_that_lead_out_are_followed_on_request_by_their_own_names(tmp_path: Path) -> None:
    touch(tmp_path / "store/KEY1.mp4")
    touch(tmp_path / "store/deep/.kept/2.mp4")
    root = tmp_path / "root"
    (root / "s/v").mkdir(parents=True)
    (root / "s/v/1.mp4").symlink_to(tmp_path / "store/KEY1.mp4")
    (root / "t").symlink_to(tmp_path / "store/deep/.kept")
    (root / "s/v/3.mp4").symlink_to(tmp_path / "nothing.mp4")
    tree = read_tree(root, (".mp4",), follow_links=True)
    assert [entry.names for entry in tree.files] == [("s", "v", "1"), ("s", "v", "3"), ("t", "2")]
    assert [entry.path.relative_to(root).as_posix() for entry in tree.files] == ["s/v/1.mp4", "s/v/3.mp4", "t/2.mp4"]
    assert tree.left_out == ()
    told = " ".join(read_tree(root, (".mp4",)).notes("--source", ()))
    assert "3 left out as outside_source" in told
    assert "--follow-links" in told


def test_following_links_ends(tmp_path: Path) -> None:
    """Links to what lies above, back into the tree, and folders that lead to each other."""
    root = tmp_path / "root"
    touch(root / "1.mp4")
    for name in "abcde":
        touch(tmp_path / f"out/{name}/2.mp4")
        for other in "abcde":
            (tmp_path / f"out/{name}/{other}").symlink_to(tmp_path / "out" / other)
    (tmp_path / "out/a/back").symlink_to(root)
    (tmp_path / "out/a/up").symlink_to(tmp_path / "out")
    (root / "s").symlink_to(tmp_path / "out/a")
    (root / "again").symlink_to(root)
    tree = read_tree(root, (".mp4",), follow_links=True)
    found = {entry.names for entry in tree.files}
    assert {("1",), ("s", "2"), ("s", "b", "2"), ("s", "up", "b", "2")} <= found
    assert not any({"back", "again"} & set(names) for names in found)
    assert {reason for reason, _ in left_out(tree).values()} == {"link_loop"}


def test_what_is_not_looked_at_is_counted_by_suffix(tmp_path: Path) -> None:
    for name in ("1.mp4", "1.jpg", "2.JPG", "a/3.zip", "a/1.txt", "README", "a.b/c"):
        touch(tmp_path / name)
    (tmp_path / "4.jpg").symlink_to(tmp_path / "1.jpg")
    tree = read_tree(tmp_path, (".mp4",))
    assert tree.others == {".jpg": 3, ".zip": 1, ".txt": 1, "": 2}
    assert tree.notes("--source x", {".txt"}) == ["--source x: not looked at: 3 .jpg, 2 without a suffix, 1 .zip"]


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
