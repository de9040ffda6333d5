"""URLs are told from paths, and what is behind them is found or refused in one line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders import ClipLoader
from loaders.errors import InputError
from loaders.storage.urls import file_system_of, local_path, url_of

NAMES = st.text("abcXYZ019-_ äß", min_size=1, max_size=8).filter(lambda name: name.strip() == name)


@given(st.sampled_from(["s3", "gs", "memory", "abfs"]), st.lists(NAMES, min_size=1, max_size=4))
def test_a_url_survives_being_a_path(scheme: str, names: list[str]) -> None:
    url = f"{scheme}://{'/'.join(names)}"
    assert url_of(url) == url_of(url + "/") == url_of(Path(url)) == url
    assert url_of(Path(url) / "more") == f"{url}/more"


@given(st.lists(NAMES, min_size=1, max_size=4), st.sampled_from(["", "/", "./", "../", "c:/"]))
def test_a_path_is_no_url(names: list[str], start: str) -> None:
    assert url_of(Path(start + "/".join(names))) is None


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_a_files_url_is_one_and_names_an_absolute_path(names: list[str]) -> None:
    url = f"file:///{'/'.join(names)}"
    assert url_of(url) == url_of(url + "/") == url_of(Path(url)) == url


def test_a_dataset_may_be_given_by_its_files_url(dataset: Path, tmp_path: Path) -> None:
    with ClipLoader(f"file://{dataset}", batch_size=8, cache=tmp_path) as loader:
        assert sum(len(batch) for batch in loader) > 0


@given(st.lists(NAMES, min_size=1, max_size=4), st.sampled_from(["/", "", "./"]))
def test_a_local_path_is_itself_or_a_file_url(names: list[str], start: str) -> None:
    path = Path(start + "/".join(names))
    assert local_path(path, "--output") == path
    url = path.resolve().as_uri()
    assert local_path(url, "--output") == local_path(Path(url), "--output") == path.resolve()


@pytest.mark.parametrize("url", ["s3://bucket/run", "gs://bucket", "https://host/run"])
def test_a_store_is_no_local_path(url: str) -> None:
    for given_as in (url, Path(url)):
        with pytest.raises(InputError, match=f"--output {url}: has to be a local folder"):
            local_path(given_as, "--output")


def test_a_file_system_names_the_root() -> None:
    pytest.importorskip("fsspec", reason="the extra s3 is not installed")
    file_system, root = file_system_of("memory://bucket/vox/")
    file_system.pipe_file(f"{root}/name", b"data")
    assert file_system.cat_file("/bucket/vox/name") == b"data"


@pytest.mark.parametrize(
    ("url", "names"), [("nosuch://bucket/vox", "nosuch"), ("s3://", "s3://"), ("dropbox://a/b", "dropbox")]
)
def test_what_cannot_be_is_refused_in_a_line_that_names_it(url: str, names: str) -> None:
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    with pytest.raises(InputError, match=names) as refused:
        file_system_of(url)
    assert "\n" not in str(refused.value)
