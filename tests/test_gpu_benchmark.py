import json
import runpy

import pytest
import torch

from support.paths import REPOSITORY


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    precision = torch.get_float32_matmul_precision()
    yield runpy.run_path(str(REPOSITORY / "benchmarks/gpu.py"))
    torch.set_float32_matmul_precision(precision)


def test_what_does_not_fit_into_the_time_is_named(gpu, tmp_path, capsys):
    output = tmp_path / "results/gpu.json"
    command = ["--device", "cpu", "--sizes", "small-128", "ldm4-256", "--variants", "eager", "--minutes", "0"]
    assert gpu["main"]([*command, "--output", str(output)]) == 0
    content = json.loads(output.read_text())
    assert content["rows"] == []
    assert {"size": "ldm4-256", "variant": "eager", "dtype": "float32"} in content["left_out"]
    assert "6 measurements are left out" in capsys.readouterr().out


def test_a_row_that_fails_says_why_and_the_others_go_on(gpu, tmp_path, capsys):
    args = gpu["parse_args"](["--device", "cpu", "--output", str(tmp_path / "gpu.json")])
    report = gpu["Report"](args)

    def fails():
        raise RuntimeError("graph break\nand a long story")

    where = {"size": "sd15-512", "batch": 1, "steps": 4}
    report.measure("stream", where, fails)
    report.measure("stream", where, lambda: {"frames_per_s": 31.5})
    report.measure("stream", where, lambda: {"frames_per_s": 12.0})
    report.targets()
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert rows[0]["failed"] == "RuntimeError: graph break" and "failed" not in rows[1]
    lines = capsys.readouterr().out.splitlines()
    (reached,) = [line for line in lines if line.startswith("frames/s, sd15-512, batch 1, 4 steps")]
    assert reached.split()[-3:] == ["31.500", ">=", "30"]
    assert sum("not measured" in line for line in lines) == 4


@pytest.mark.weights
def test_a_pipeline_is_measured(gpu):
    args = gpu["parse_args"](["--device", "cpu", "--seconds", "0"])
    subject = gpu["Subject"](gpu["SIZES"]["small-128"], "float32", "channels_last", args)
    row = subject.row(1, 1, subject.flops(1, 1))
    assert row["frames_per_s"] > 0 and row["first_s"] > 0 and row["tflop_per_s"] > 0
    assert sum(row["shares"].values()) == pytest.approx(1)
    assert set(row["shares"]) == {"F", "unet", "decode", "encode"}
    assert subject.flow_latency() > 0


def test_no_gpu_is_said_at_once(gpu, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu["parse_args"]([])
    assert "there is no CUDA device here" in capsys.readouterr().err
