import pytest

from mcdiff_pipeline.processor import available_cores, fastest_dtype


def test_cores_are_those_of_the_control_group(tmp_path):
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert 1 <= available_cores(tmp_path) <= 2
    (tmp_path / "cpu.max").write_text("10000 100000\n")
    assert available_cores(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert available_cores(tmp_path) == available_cores(tmp_path / "none") >= 1


@pytest.mark.parametrize(
    ("device", "flags", "dtype"),
    [
        ("cpu", "fpu avx2 avx512f avx512_bf16", "bfloat16"),
        ("cpu", "fpu avx512f amx_bf16 amx_tile", "bfloat16"),
        ("cpu", "fpu avx2 avx512f", "float32"),
        ("cuda:0", "fpu avx512_bf16", "float32"),
    ],
)
def test_bfloat16_is_fastest_on_processors_with_instructions_for_it(tmp_path, device, flags, dtype):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: Some\nflags\t\t: {flags}\n")
    assert fastest_dtype(device, tmp_path / "cpuinfo") == dtype
    assert fastest_dtype(device, tmp_path / "none") == "float32"
