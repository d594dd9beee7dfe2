# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""Flow in the files of Middlebury and KITTI."""

import io

import numpy as np
import pytest
import torch

from mcdiff_pipeline.flow_io import read_flo, read_kitti_png, write_flo, write_kitti_png


def random_flow(*shape, scale=2.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * scale


class TestFlo:
    def test_round_trip_is_exact(self, tmp_path):
        flow = random_flow(2, 5, 7, scale=100.0)
        write_flo(tmp_path / "a.flo", flow)
        assert torch.equal(read_flo(tmp_path / "a.flo"), flow)
        assert [file.name for file in tmp_path.iterdir()] == ["a.flo"]

    def test_layout_is_the_layout_of_middlebury(self, tmp_path):
        write_flo(tmp_path / "a.flo", torch.arange(12.0).view(2, 2, 3))
        content = (tmp_path / "a.flo").read_bytes()
        assert np.frombuffer(content, "<f4", count=1) == np.float32(202021.25)
        assert np.frombuffer(content, "<i4", offset=4, count=2).tolist() == [3, 2]
        assert np.frombuffer(content, "<f4", offset=12).tolist() == [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]

    def test_torchvision_reads_the_same_numbers(self, tmp_path):
        datasets = pytest.importorskip("torchvision.datasets._optical_flow", reason="torchvision's reader is compared")
        flow = random_flow(2, 5, 7, scale=100.0)
        write_flo(tmp_path / "a.flo", flow)
        assert np.array_equal(datasets._read_flo(str(tmp_path / "a.flo")), flow.numpy())

    def test_open_files_are_read_and_written(self):
        flow, file = random_flow(2, 5, 7), io.BytesIO()
        write_flo(file, flow)
        file.seek(0)
        assert torch.equal(read_flo(file), flow)

    def test_half_precision_and_views_are_written(self, tmp_path):
        flow = random_flow(2, 5, 7).to(torch.bfloat16).transpose(1, 2)
        write_flo(tmp_path / "a.flo", flow)
        assert torch.equal(read_flo(tmp_path / "a.flo"), flow.float())

    def test_failed_write_keeps_the_old_file(self, tmp_path):
        flow = random_flow(2, 5, 7)
        write_flo(tmp_path / "a.flo", flow)
        with pytest.raises(ValueError):
            write_flo(tmp_path / "a.flo", flow[None])
        assert torch.equal(read_flo(tmp_path / "a.flo"), flow)

    def test_errors_name_the_file_and_what_is_wrong(self, tmp_path):
        flow = random_flow(2, 5, 7)
        with pytest.raises(ValueError, match=r"\(1, 2, 5, 7\).*\[2, height, width\].*one by one"):
            write_flo(tmp_path / "a.flo", flow[None])
        with pytest.raises(ValueError, match=r"a\.png.*\.flo"):
            write_flo(tmp_path / "a.png", flow)
        with pytest.raises(FileNotFoundError, match="no folder.*missing"):
            write_flo(tmp_path / "missing" / "a.flo", flow)
        with pytest.raises(FileNotFoundError, match=r"no file.*a\.flo"):
            read_flo(tmp_path / "a.flo")
        write_flo(tmp_path / "a.flo", flow)
        content = (tmp_path / "a.flo").read_bytes()
        (tmp_path / "a.flo").write_bytes(content[:-1])
        with pytest.raises(ValueError, match=r"a\.flo.*damaged.*7 x 5 pixels.*292 bytes.*291"):
            read_flo(tmp_path / "a.flo")
        (tmp_path / "a.flo").write_bytes(b"\x89PNG" + content[4:])
        with pytest.raises(ValueError, match=r"a\.flo.*not a Middlebury"):
            read_flo(tmp_path / "a.flo")


class TestKittiPng:
    @pytest.fixture
    def flow(self):
        """All displacements that the format can store, multiples of 1/64 pixel, `[2, 256, 256]`."""
        every = (torch.arange(2**16) - 2**15).float().view(256, 256) / 64
        return torch.stack([every, every.flip(1).T])

    @pytest.fixture
    def valid(self):
        return torch.rand(256, 256, generator=torch.Generator().manual_seed(0)) > 0.3

    def test_every_value_of_the_format_is_kept(self, tmp_path, flow, valid):
        write_kitti_png(tmp_path / "a.png", flow, valid)
        read, read_valid = read_kitti_png(tmp_path / "a.png")
        assert torch.equal(read, flow)
        assert torch.equal(read_valid, valid)
        assert [file.name for file in tmp_path.iterdir()] == ["a.png"]

    def test_torchvision_reads_the_same_numbers(self, tmp_path, flow, valid):
        datasets = pytest.importorskip("torchvision.datasets._optical_flow", reason="torchvision's reader is compared")
        write_kitti_png(tmp_path / "a.png", flow, valid)
        read, read_valid = datasets._read_16bits_png_with_flow_and_valid_mask(str(tmp_path / "a.png"))
        assert np.array_equal(read, flow.numpy())
        assert np.array_equal(read_valid, valid.numpy())

    def test_opencv_reads_and_writes_the_same_numbers(self, tmp_path, flow, valid):
        cv2 = pytest.importorskip("cv2", reason="OpenCV's PNG codec is compared")
        write_kitti_png(tmp_path / "a.png", flow, valid)
        pixels = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)  # blue, green, red
        assert pixels.dtype == np.uint16
        expected = torch.stack([valid.float(), flow[1] * 64 + 2**15, flow[0] * 64 + 2**15], dim=2)
        assert np.array_equal(pixels, expected.numpy())
        cv2.imwrite(str(tmp_path / "b.png"), pixels)
        read, read_valid = read_kitti_png(tmp_path / "b.png")
        assert torch.equal(read, flow)
        assert torch.equal(read_valid, valid)

    def test_displacements_are_rounded_to_a_64th(self, tmp_path):
        flow = random_flow(2, 5, 7, scale=20.0)
        write_kitti_png(tmp_path / "a.png", flow)
        read, valid = read_kitti_png(tmp_path / "a.png")
        torch.testing.assert_close(read, flow, rtol=0, atol=0.51 / 64)
        assert valid.all()

    def test_open_files_are_read_and_written(self, flow, valid):
        file = io.BytesIO()
        write_kitti_png(file, flow, valid)
        file.seek(0)
        read, read_valid = read_kitti_png(file)
        assert torch.equal(read, flow)
        assert torch.equal(read_valid, valid)

    @pytest.mark.parametrize("displacement", [512.0, -513.0, float("nan"), float("inf")])
    def test_out_of_range_is_refused_where_valid_and_clipped_elsewhere(self, tmp_path, displacement):
        flow, valid = torch.zeros(2, 5, 7), torch.ones(5, 7, dtype=torch.bool)
        flow[0, 2, 3] = displacement
        with pytest.raises(ValueError, match=f"{displacement:g} pixels.*-512 and 511.98"):
            write_kitti_png(tmp_path / "a.png", flow, valid)
        valid[2, 3] = False
        write_kitti_png(tmp_path / "a.png", flow, valid)
        read, read_valid = read_kitti_png(tmp_path / "a.png")
        assert torch.equal(read_valid, valid)
        assert torch.equal(read[:, valid], torch.zeros(2, 34))

    def test_errors_name_the_file_and_what_is_wrong(self, tmp_path, flow, valid):
        with pytest.raises(ValueError, match=r"valid.*\(2, 2\).*\(256, 256\)"):
            write_kitti_png(tmp_path / "a.png", flow, valid[:2, :2])
        with pytest.raises(ValueError, match=r"valid.*torch.float32.*bool"):
            write_kitti_png(tmp_path / "a.png", flow, valid.float())
        with pytest.raises(ValueError, match=r"\(3, 256, 256\)"):
            write_kitti_png(tmp_path / "a.png", torch.zeros(3, 256, 256))
        with pytest.raises(ValueError, match=r"a\.flo.*\.png"):
            write_kitti_png(tmp_path / "a.flo", flow)
        with pytest.raises(FileNotFoundError, match="no folder.*missing"):
            write_kitti_png(tmp_path / "missing" / "a.png", flow)
        with pytest.raises(FileNotFoundError, match=r"no file.*a\.png"):
            read_kitti_png(tmp_path / "a.png")

    def test_truncated_files_are_refused(self, tmp_path, flow):
        path = tmp_path / "a.png"
        write_kitti_png(path, flow)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=r"a\.png.*truncated"):
            read_kitti_png(path)
        path.write_bytes(b"PIEH" + content)
        with pytest.raises(ValueError, match=r"a\.png.*not a PNG"):
            read_kitti_png(path)

    @pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
    def test_single_wrong_bit_is_noticed(self, tmp_path, share):
        path = tmp_path / "a.png"
        write_kitti_png(path, random_flow(2, 40, 50))
        content = bytearray(path.read_bytes())
        content[int(share * len(content))] ^= 1
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.png.*damaged"):
            read_kitti_png(path)

    def test_png_of_8_bits_is_refused(self, tmp_path):
        image = pytest.importorskip("PIL.Image")
        image.new("RGB", (4, 4)).save(tmp_path / "a.png")
        with pytest.raises(ValueError, match=r"a\.png.*rgb24.*16 bits"):
            read_kitti_png(tmp_path / "a.png")
