import dataclasses

from mcdiff_pipeline.annotation.workers import default_num_workers
from support.annotation_runs import SETTINGS


def test_default_is_one_worker_per_cpu_or_several_per_gpu():
    raft = dataclasses.replace(SETTINGS, flow="raft_small", flow_weights="DEFAULT")
    assert default_num_workers(SETTINGS, num_cpus=64, num_gpus=1) == 64
    assert default_num_workers(raft, num_cpus=64, num_gpus=0) == 64
    assert default_num_workers(dataclasses.replace(raft, device="cpu"), num_cpus=64, num_gpus=1) == 64
    assert default_num_workers(raft, num_cpus=64, num_gpus=1) < 64
    assert default_num_workers(raft, num_cpus=64, num_gpus=2) == 2 * default_num_workers(raft, 64, num_gpus=1)
    assert default_num_workers(raft, num_cpus=2, num_gpus=8) == 2
