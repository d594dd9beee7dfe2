import dataclasses

from mcdiff_pipeline.annotation.found_videos import find_videos
from mcdiff_pipeline.annotation.parts import WRITING
from mcdiff_pipeline.annotation.workers import annotate_here, default_num_workers
from mcdiff_pipeline.video import write_video
from support.annotation_runs import SETTINGS, pan


def test_default_is_one_worker_per_cpu_or_several_per_gpu():
    raft = dataclasses.replace(SETTINGS, flow="raft_small", flow_weights="DEFAULT")
    assert default_num_workers(SETTINGS, num_cpus=64, num_gpus=1) == 64
    assert default_num_workers(raft, num_cpus=64, num_gpus=0) == 64
    assert default_num_workers(dataclasses.replace(raft, device="cpu"), num_cpus=64, num_gpus=1) == 64
    assert default_num_workers(raft, num_cpus=64, num_gpus=1) < 64
    assert default_num_workers(raft, num_cpus=64, num_gpus=2) == 2 * default_num_workers(raft, 64, num_gpus=1)
    assert default_num_workers(raft, num_cpus=2, num_gpus=8) == 2


def test_progress_is_told_inside_a_video(tmp_path):
    write_video(pan("coffee"), tmp_path / "pan.mp4", fps=24)
    (tmp_path / "parts" / WRITING).mkdir(parents=True)
    (video,) = find_videos([tmp_path / "pan.mp4"])
    *before, last = annotate_here([video], SETTINGS, tmp_path / "parts", 1, watch_interval=0)
    shares = [progress.share for progress in before]
    assert len(shares) > 5 and shares == sorted(shares) and 0 < shares[0] < 0.2 and shares[-1] > 0.9
    assert not any(progress.is_done for progress in before) and last.is_done and last.share == 1
