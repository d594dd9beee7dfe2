import contextlib
import os
import tempfile
import time
from pathlib import Path

import pytest

from mcdiff_pipeline.annotation.found_videos import find_videos


def touch(path, content: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def names(*videos) -> list[str]:
    return [video.name for video in find_videos(videos)]


def test_folders_are_searched_with_subfolders(tmp_path):
    for name in ("b.mp4", "a/z.MOV", "a/c/d.webm", "notes.txt", ".hidden.mp4", ".git/e.mp4"):
        touch(tmp_path / "videos" / name)
    assert names(tmp_path / "videos") == ["a/c/d.webm", "a/z.MOV", "b.mp4"]


def test_given_file_may_have_any_name(tmp_path):
    touch(tmp_path / "recording")
    assert names(tmp_path / "recording") == ["recording"]


def test_order_and_repetition_of_arguments_do_not_matter(tmp_path):
    for name in ("a/x.mp4", "a/sub/y.mp4", "b/z.mp4"):
        touch(tmp_path / name)
    given = [tmp_path / "a", tmp_path / "b", tmp_path / "a" / "sub", tmp_path / "a" / "sub" / "y.mp4"]
    assert names(*given) == names(*reversed(given)) == names(*given, *given) == ["sub/y.mp4", "x.mp4", "z.mp4"]


def test_same_name_in_two_folders_gives_two_names(tmp_path):
    for name in ("one/videos/x.mp4", "two/videos/x.mp4", "two/videos/y.mp4"):
        touch(tmp_path / name)
    found = find_videos([tmp_path / "one" / "videos", tmp_path / "two" / "videos"])
    assert [video.name for video in found] == ["one/videos/x.mp4", "two/videos/x.mp4", "y.mp4"]
    assert len({video.identity for video in found}) == 3
    assert [video.path.read_bytes() for video in found] == [b"x"] * 3


def test_file_names_of_any_bytes_give_different_names(tmp_path):
    strange = [b"\xff.mp4", b"\\xff.mp4", "ä.mp4".encode(), b"a\nb|c`d.mp4", b"-rf .mp4", "ä.mp4".encode("latin-1")]
    for name in strange:
        touch(tmp_path / os.fsdecode(name))
    found = find_videos([tmp_path])
    assert len({video.name for video in found}) == len(strange)
    assert {os.fsencode(video.path.name) for video in found} == set(strange)
    assert "\\xff.mp4" in {video.name for video in found}
    for video in found:
        video.name.encode("utf-8")


def test_links_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path / "store" / "x.mp4")
    touch(tmp_path / "videos" / "y.mp4")
    (tmp_path / "videos" / "linked").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "back").symlink_to(tmp_path / "videos")
    assert names(tmp_path / "videos") == ["linked/x.mp4", "y.mp4"]


def test_unreadable_files_are_found_with_the_reason(tmp_path):
    touch(tmp_path / "good.mp4", b"12345")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "lost.mp4").symlink_to(tmp_path / "nowhere.mp4")
    found = {video.name: video for video in find_videos([tmp_path])}
    assert found["good.mp4"].error is None and found["good.mp4"].size == 5
    assert "not a file" in found["pipe.mp4"].error
    assert "No such file" in found["lost.mp4"].error


@contextlib.contextmanager
def not_as_root():
    """Gives up the rights of root for a while, because root can read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_unreadable_folder_is_found_with_the_reason():
    with tempfile.TemporaryDirectory() as folder:  # other users may not open those of pytest
        os.chmod(folder, 0o755)
        touch(Path(folder, "good.mp4"))
        os.mkdir(os.path.join(folder, "closed"), 0)
        with not_as_root():
            found = {video.name: video for video in find_videos([folder])}
    assert set(found) == {"closed", "good.mp4"}
    assert "Permission denied" in found["closed"].error


def test_changed_file_has_another_time(tmp_path):
    touch(tmp_path / "x.mp4")
    before = find_videos([tmp_path])[0]
    os.utime(tmp_path / "x.mp4", ns=(0, time.time_ns() + 10**9))
    after = find_videos([tmp_path])[0]
    assert before.name == after.name and before.modified != after.modified


def test_missing_file_is_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_videos([tmp_path / "nowhere"])


def test_no_videos_raise_an_error_that_says_what_to_do(tmp_path):
    touch(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match=r"\.mp4.*own names"):
        find_videos([tmp_path])
    with pytest.raises(ValueError, match="an empty list"):
        find_videos([])
