import dataclasses
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torchvision.models.optical_flow import raft_small

from mcdiff_pipeline.video import write_video
from support.annotation_runs import PHOTOGRAPHS, SETTINGS, annotate, digests, kill, meanwhile, pan, readers_in


ray = pytest.importorskip("ray", reason="Ray is missing: pip install 'mcdiff-pipeline[distributed]'")
pytest.importorskip("ray.data", reason="Ray Data is missing: pip install 'mcdiff-pipeline[distributed]'")


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name in PHOTOGRAPHS:
        for speed in (1, 2):
            write_video(pan(name, num_frames=28, speed=speed), folder / f"{name}-{speed}.mp4", fps=12)
    return folder


@pytest.fixture(scope="module")
def cluster():
    """Two machines of one CPU each for Ray, simulated on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # else its workers starve on a shared machine
        from ray.cluster_utils import Cluster

        machine = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 * 2**20}
        fast_detection = {"_system_config": {"health_check_period_ms": 1000}}  # of machines that fail
        cluster = Cluster(initialize_head=True, head_node_args=machine | fast_detection)
        cluster.add_node(**machine)
        yield cluster
        cluster.shutdown()


def ancestors_of(process: int) -> list[int]:
    found = []
    while process > 1:
        try:
            state = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            break
        process = int(state.rpartition(")")[2].split()[1])
        found.append(process)
    return found


def test_relative_paths_of_weights_are_found_on_all_machines(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(pan("cat", num_frames=8), "cat.mp4", fps=12)
    save_file(raft_small().state_dict(), "raft.safetensors")
    settings = dataclasses.replace(SETTINGS, flow="raft_small", flow_weights="raft.safetensors")
    (outcome,) = annotate(["cat.mp4"], Path("output"), settings, ray_address=cluster.address).videos
    assert outcome.error is None and outcome.num_frames == 8


# The last test, because it kills one of the machines.
def test_failed_machine_and_crashing_video_give_same_bytes_as_one_machine(videos, cluster, tmp_path):
    (second,) = cluster.worker_nodes
    raylet = second.all_processes["raylet"][0].process.pid
    crashing = "coffee-1.mp4"
    killed = {"machine": 0, "worker": 0}

    def disturb():
        for reader, video in readers_in(videos):
            if video == crashing:
                killed["worker"] += kill(reader)
            elif not killed["machine"] and raylet in ancestors_of(reader):
                killed["machine"] += kill(raylet)

    with meanwhile(disturb, every=0.03):
        report = annotate([videos], tmp_path / "many", ray_address=cluster.address)
    assert killed["machine"] == 1 and killed["worker"] >= 2
    assert [outcome.video for outcome in report.videos if outcome.error] == [crashing]
    with meanwhile(disturb, every=0.03):
        annotate([videos], tmp_path / "one", num_workers=2)
    assert digests(tmp_path / "many") == digests(tmp_path / "one")
