import errno
import hashlib
import io
import pickle
import resource
import struct
import tarfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from mcdiff_pipeline.dataset import Clip, ClipDataset, ShardWriter
from mcdiff_pipeline.flow_io import read_kitti_png
from support.mutations import refusals


def make_clip(number: int, num_frames: int = 3, size: tuple[int, int] = (20, 28), people: int = 2) -> Clip:
    rng = np.random.default_rng(number)
    height, width = size
    return Clip(
        key=f"clip_{number:04d}",
        frames=rng.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8),
        flow=np.float32(rng.integers(-2000, 2000, (num_frames - 1, 2, height, width)) / 64),
        occlusion=rng.random((num_frames - 1, height, width)) < 0.2,
        masks=rng.integers(0, people + 1, (num_frames, height, width), dtype=np.uint8),
        keypoints=rng.uniform(0, 20, (num_frames, people, 17, 3)).astype(np.float32),
        meta={"seed": number, "source": "tëst"},
    )


def assert_equal(first: Clip, second: Clip) -> None:
    assert first.key == second.key and first.meta == second.meta
    for name in ("frames", "flow", "occlusion", "masks", "keypoints"):
        a, b = getattr(first, name), getattr(second, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, err_msg=name)


def write(folder, clips, **options) -> None:
    with ShardWriter(folder, "train", **options) as writer:
        for clip in clips:
            writer.write(clip)


def test_clips_are_read_as_written(tmp_path):
    clips = [make_clip(0), make_clip(1, num_frames=2, size=(7, 5)), make_clip(2, people=0), make_clip(3, num_frames=1)]
    write(tmp_path, clips, clips_per_shard=3)
    dataset = ClipDataset(tmp_path, "train")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["train-00000.tar", "train-00001.tar"]
    assert len(dataset) == 4
    for index, clip in enumerate(clips):
        assert_equal(dataset[index], clip)
    assert_equal(dataset[-1], clips[3])


def test_flow_is_stored_to_a_64th_of_a_pixel_even_where_occluded(tmp_path):
    clip = make_clip(0)
    clip.flow[:] = np.random.default_rng(1).uniform(-500, 500, clip.flow.shape)
    write(tmp_path, [clip])
    assert np.abs(ClipDataset(tmp_path)[0].flow - clip.flow).max() < 1 / 127


def test_jpeg_frames_are_close(tmp_path):
    clip = make_clip(0)
    clip.frames[:] = np.linspace(0, 255, 28, dtype=np.uint8)[None, None, :, None]
    write(tmp_path, [clip], frame_format="jpg")
    assert np.abs(ClipDataset(tmp_path)[0].frames.astype(int) - clip.frames).max() <= 6


def test_some_frames_of_a_clip_are_read_alone(tmp_path):
    clip = make_clip(0, num_frames=5)
    write(tmp_path, [clip])
    dataset = ClipDataset(tmp_path)
    assert dataset.num_frames(0) == 5
    piece = dataset.read(0, frames=(2, 3))
    np.testing.assert_array_equal(piece.frames, clip.frames[2:4])
    np.testing.assert_array_equal(piece.flow, clip.flow[2:3])
    np.testing.assert_array_equal(piece.occlusion, clip.occlusion[2:3])
    np.testing.assert_array_equal(piece.masks, clip.masks[2:4])
    np.testing.assert_array_equal(piece.keypoints, clip.keypoints[2:4])
    for wrong in ((), (0, 2), (4, 5), (-1, 0)):
        with pytest.raises(ValueError, match="frames"):
            dataset.read(0, frames=wrong)


def test_same_clips_give_same_bytes(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / folder, map(make_clip, range(3)))
    digests = {
        hashlib.sha256((tmp_path / folder / "train-00000.tar").read_bytes()).hexdigest() for folder in ("a", "b")
    }
    assert len(digests) == 1


def test_interrupted_writer_keeps_complete_shards(tmp_path):
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, "train", clips_per_shard=2) as writer:
        for number in range(3):
            writer.write(make_clip(number))
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["train-00000.tar"]
    assert len(ClipDataset(tmp_path, "train")) == 2


def test_writers_of_one_split_share_a_folder(tmp_path):
    write(tmp_path, [make_clip(2)], first_shard=1)
    write(tmp_path, [make_clip(0), make_clip(1)])
    assert ClipDataset(tmp_path, "train").keys == ["clip_0000", "clip_0001", "clip_0002"]
    with pytest.raises(FileExistsError, match="first_shard"):
        write(tmp_path, [make_clip(3)])


@pytest.mark.parametrize("frame_format", ["png", "jpg"])
def test_copied_clips_have_same_bytes(tmp_path, frame_format):
    clips = [make_clip(number, num_frames=2 + number) for number in range(5)]
    write(tmp_path / "once", clips, frame_format=frame_format)
    write(tmp_path / "parts", clips, frame_format=frame_format, clips_per_shard=2)
    parts = ClipDataset(tmp_path / "parts")
    with ShardWriter(tmp_path / "copied", "train") as writer:
        for index in range(len(parts)):
            writer.copy(parts, index)
    shards = [tmp_path / folder / "train-00000.tar" for folder in ("once", "copied")]
    assert shards[0].read_bytes() == shards[1].read_bytes()


def test_copy_checks_keys_and_indices(tmp_path):
    write(tmp_path / "a", [make_clip(0)])
    dataset = ClipDataset(tmp_path / "a")
    with ShardWriter(tmp_path / "b", "train") as writer:
        writer.copy(dataset, 0)
        with pytest.raises(ValueError, match="unique"):
            writer.copy(dataset, -1)
        with pytest.raises(IndexError, match="1 clips"):
            writer.copy(dataset, 1)
    assert ClipDataset(tmp_path / "b").keys == dataset.keys


# In the first clip, in the second clip, and in the end of the archive of 51,200 bytes.
@pytest.mark.parametrize("limit", [100, 20_000, 51_000])
def test_full_disk_keeps_complete_shards_and_no_partial_one(tmp_path, limit):
    clips = [make_clip(number) for number in range(3)]
    write(tmp_path, clips[:1])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            write(tmp_path, clips[1:], first_shard=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert [path.name for path in tmp_path.iterdir()] == ["train-00000.tar"]


def test_shards_are_chosen_by_split_or_listed(tmp_path):
    write(tmp_path, [make_clip(0)])
    with ShardWriter(tmp_path, "test") as writer:
        writer.write(make_clip(1))
    assert ClipDataset(tmp_path, "test").keys == ["clip_0001"]
    assert len(ClipDataset([tmp_path / "train-00000.tar", tmp_path / "test-00000.tar"])) == 2
    with pytest.raises(ValueError, match="validation"):
        ClipDataset(tmp_path, "validation")


def test_dataset_works_in_data_loader_workers(tmp_path):
    clips = [make_clip(number) for number in range(5)]
    write(tmp_path, clips, clips_per_shard=2)
    dataset = ClipDataset(tmp_path, "train")
    assert_equal(dataset[3], clips[3])  # opens a file; pickling still works
    assert_equal(pickle.loads(pickle.dumps(dataset))[3], clips[3])
    loader = torch.utils.data.DataLoader(dataset, batch_size=2, num_workers=1, collate_fn=list)
    for read, clip in zip((clip for batch in loader for clip in batch), clips, strict=True):
        assert_equal(read, clip)


def test_webdataset_reads_shards(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    clips = [make_clip(number) for number in range(3)]
    write(tmp_path, clips)
    samples = list(webdataset.WebDataset(str(tmp_path / "train-00000.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [clip.key for clip in clips]
    sample = samples[1]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(sample["frame_02.png"]))), clips[1].frames[2])
    flow, visible = read_kitti_png(io.BytesIO(sample["flow_01.png"]))
    np.testing.assert_array_equal(flow.numpy(), clips[1].flow[1])
    np.testing.assert_array_equal(visible.numpy(), ~clips[1].occlusion[1])
    np.testing.assert_array_equal(np.load(io.BytesIO(sample["keypoints.npy"])), clips[1].keypoints)


def test_shards_from_other_programs_are_read(tmp_path):
    write(tmp_path, [make_clip(0)])
    with (
        tarfile.open(tmp_path / "train-00000.tar") as source,
        tarfile.open(tmp_path / "other-00000.tar", "w", format=tarfile.PAX_FORMAT) as target,
    ):
        for member in source.getmembers():
            content = source.extractfile(member)
            member.mtime = 1.5  # needs an extended header
            member.name = "a folder/" + member.name
            target.addfile(member, content)
    assert_equal(ClipDataset(tmp_path, "other")[0], make_clip(0))


def test_damaged_member_is_named(tmp_path):
    write(tmp_path, [make_clip(0), make_clip(1)])
    shard = tmp_path / "train-00000.tar"
    with tarfile.open(shard) as tar:
        places = {member.name: (member.offset_data, member.size) for member in tar}
    intact = shard.read_bytes()
    for name in ("frame_00.png", "flow_00.png", "mask_00.png", "keypoints.npy", "meta.json"):
        offset, size = places[f"clip_0001.{name}"]
        shard.write_bytes(intact[:offset] + b"\xff" * size + intact[offset + size :])
        dataset = ClipDataset(tmp_path)
        assert_equal(dataset[0], make_clip(0))
        with pytest.raises(ValueError, match=rf"clip_0001 .*train-00000\.tar .*{name}"):
            dataset[1]


@pytest.mark.parametrize("length", [0, 300, 5000, -1024, -20000])
def test_truncated_shard_is_named_on_opening(tmp_path, length):
    write(tmp_path, [make_clip(0), make_clip(1)])
    shard = tmp_path / "train-00000.tar"
    shard.write_bytes(shard.read_bytes()[:length].rstrip(b"\0") if length < 0 else shard.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"train-00000\.tar"):
        ClipDataset(tmp_path)


def test_repeated_keys_and_unknown_flow_are_rejected(tmp_path):
    clip = make_clip(0)
    with ShardWriter(tmp_path, "train") as writer:
        writer.write(clip)
        with pytest.raises(ValueError, match="unique"):
            writer.write(clip)
        broken = make_clip(1)
        broken.flow[0, 0, 0, 0] = np.nan
        with pytest.raises(ValueError, match="finite"):
            writer.write(broken)
    assert ClipDataset(tmp_path).keys == ["clip_0000"]


# Foreign shards


def write_member(path, name: str, content: bytes) -> None:
    """A shard with one clip, of which one member has other content."""
    write(path.parent / "source", [make_clip(0)])
    with tarfile.open(path.parent / "source" / "train-00000.tar") as source, tarfile.open(path, "w") as target:
        for member in source:
            stored = source.extractfile(member).read()
            if member.name == f"clip_0000.{name}":
                stored, member.size = content, len(content)
            target.addfile(member, io.BytesIO(stored))


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it has this size."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return buffer.getvalue()[:12] + header + struct.pack(">I", zlib.crc32(header)) + buffer.getvalue()[33:]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("meta.json", b"null"),
        ("meta.json", b"[1]"),
        ("meta.json", b"{}"),
        ("meta.json", b"[" * 200_000),
        ("keypoints.npy", b"PK\x03\x04" + bytes(60)),
        ("keypoints.npy", npy(np.full((3, 2, 17, 3), np.nan, np.float32))),
        ("keypoints.npy", npy(np.zeros((3, 2, 17, 3), np.float64))),
        ("keypoints.npy", npy(np.zeros((3, 2, 17, 3), np.float32)).replace(b"(3, 2", b"(9**9, 2")),
        ("frame_00.png", png_header(30_000, 30_000)),
        ("flow_00.png", png_header(30_000, 30_000)),
        ("mask_00.png", b""),
    ],
)
def test_foreign_member_is_refused_with_shard_and_clip(tmp_path, name, content):
    write_member(tmp_path / "a.tar", name, content)
    dataset = ClipDataset([tmp_path / "a.tar"])
    with pytest.raises(ValueError, match=f"Clip clip_0000 in .*a.tar is damaged or incomplete at {name}") as refusal:
        dataset[0]
    assert "\n" not in str(refusal.value)


def test_frames_of_several_sizes_are_refused(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (5, 7)).save(buffer, "PNG")
    write_member(tmp_path / "a.tar", "frame_01.png", buffer.getvalue())
    with pytest.raises(ValueError, match="Clip clip_0000 in .*a.tar is damaged"):
        ClipDataset([tmp_path / "a.tar"])[0]


@pytest.mark.parametrize("kind", [b"0", b"x"])
def test_shard_with_a_negative_size_is_refused(tmp_path, kind):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        member = tarfile.TarInfo("a.meta.json")
        member.size = 512
        tar.addfile(member, io.BytesIO(b"x" * 512))
    header = bytearray(buffer.getvalue())
    header[124:136] = b"-0000001000\0"
    header[156:157] = kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    (tmp_path / "a.tar").write_bytes(header)
    with pytest.raises(ValueError, match="The shard .*a.tar cannot be read"):
        ClipDataset([tmp_path / "a.tar"])


def test_missing_shard_is_refused(tmp_path):
    (tmp_path / "a.tar").symlink_to(tmp_path / "nothing.tar")
    with pytest.raises(ValueError, match="The shard .*a.tar cannot be read"):
        ClipDataset([tmp_path / "a.tar"])


def test_mutated_shard_is_read_or_refused_in_one_sentence(tmp_path):
    write(tmp_path, [make_clip(number, size=(8, 9)) for number in range(2)])

    def read(path):
        dataset = ClipDataset([path])
        for index in range(len(dataset)):
            dataset[index]

    assert len(refusals(tmp_path / "train-00000.tar", read, 200)) > 50
