"""Ablations of a tiny model, through the script's command line."""

import importlib
import json
import runpy
import shutil

import pytest
import run_ablations
import torch
from PIL import Image

from mcdiff_commands.errors import InputError
from mcdiff_pipeline import MCDiffPipeline, Stroke
from support.sliding_squares import write_squares
from support.training_runs import SIZE


@pytest.fixture(scope="module")
def run(data, image_encoder, tmp_path_factory):
    """Runs the script for some variants; returns the output folder."""
    root = tmp_path_factory.mktemp("ablations")
    configs = root / "configs"
    configs.mkdir()
    config = json.loads((data / "train_flow_completion.json").read_text()) | {"separate_foreground": True}
    (configs / "flow_completion_foreground.json").write_text(json.dumps(config))
    shutil.copy(data / "train_future_frame.json", configs / "unet.json")
    shutil.copy(run_ablations.CONFIGS / "scheduler.json", configs)

    def run(*variants, **changes):
        settings = {"train_data_dir": data / "clips", "pretrained_vae": data / "vae", "cache_dir": data / "cache"}
        settings |= {"output_dir": root / "runs", "configs": configs, "steps": 2, "train_batch_size": 2}
        settings |= {"mixed_precision": "no", "logging_steps": 1, "image_encoder": image_encoder} | changes
        command_line = [f"--{name}={value}" for name, value in settings.items()]
        assert run_ablations.main([*command_line, "--variants", *variants]) == 0
        return root / "runs"

    return run


def times_written(root) -> dict:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*.safetensors")}


def test_variants_differ_in_one_switch_share_components_and_are_kept(run, capsys):
    variants = ("full", "no_flow_completion", "no_features")
    folder = run(*variants)
    shown = capsys.readouterr().out
    for variant in variants:
        assert f"mcdiff evaluate --model {folder / variant} --data CLIPS" in shown
    made = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/ablation.json")}
    assert list(made["no_flow_completion"]["components"]) == ["future_frame"]
    assert made["no_features"]["components"]["future_frame"]["shared_with"] == "full"
    assert made["no_features"]["components"]["flow_completion"]["shared_with"] is None
    assert made["no_features"]["components"]["flow_completion"]["switches"] == ["--reads_regions"]
    for description in made.values():
        assert description["budget_of_each_component"] == {"steps": 2, "minutes": None}
        assert all(part["steps"] == 2 and part["minutes"] > 0 for part in description["components"].values())
    components = {path.relative_to(folder / "components").as_posix() for path in folder.glob("components/*/*")}
    assert components == {
        "full/flow_completion",
        "full/future_frame",
        "no_flow_completion/future_frame",
        "no_features/flow_completion",
    }
    for variant in made:
        pipe = MCDiffPipeline.from_pretrained(folder / variant)
        pipe.set_progress_bar_config(disable=True)
        assert (pipe.flow_completion is None) == (variant == "no_flow_completion")
        assert (pipe.image_encoder is not None) == (variant == "full")
        image, strokes = Image.new("RGB", (SIZE, SIZE)), [Stroke([(4, 4), (20, 20)])]
        assert len(pipe(image, strokes, num_frames=2, height=SIZE, width=SIZE).frames[0]) == 2

    written = times_written(folder)
    (folder / "no_features/ablation.json").unlink()  # as if the run had been killed before
    run(*variants)
    changed = {path for path, when in times_written(folder).items() if written.get(path) != when}
    assert {path.relative_to(folder).parts[0] for path in changed} == {"no_features"}


def test_variants_are_evaluated_as_asked(run, tmp_path):
    squares = write_squares(tmp_path / "squares", range(2), size=64)
    few = "--strokes 1 --num-frames 3 --num-clips 1 --steps 1 --drift-clips 0 --num-samples 0"
    evaluated = {"evaluate_data_dir": squares, "evaluate_arguments": few}
    folder = run("full", **evaluated)
    metrics = json.loads((folder / "evaluations/full/metrics.json").read_text())
    assert metrics["clips"] == 1
    assert metrics["settings"]["strokes"] == [1]

    results = runpy.run_path(str(run_ablations.CONFIGS.parents[2] / "benchmarks/results.py"))
    page = "\n".join(results["ablation_section"]([folder / "evaluations"]))
    flags = "--strokes 1 --num-frames 3 --num-clips 1 --drift-clips 0"
    assert f'make ablations STEPS=2 ABLATIONS="--train_batch_size 2 --variants full" EVALUATE="{flags}"' in page
    assert "2 steps of 2 for each F and each G" in page and "| `full` | none |" in page
    assert "Not trained: `no_features`, " in page
    assert "for seeds" not in page

    other = tmp_path / "seed-1"
    run("full", **evaluated, seed=1, output_dir=other)
    page = "\n".join(results["ablation_section"]([other / "evaluations", folder / "evaluations"]))
    assert "The same for seeds 0, 1" in page and "make ablations STEPS=2 SEED=1 ABLATIONS=" in page
    line = next(line for line in page.splitlines() if line.startswith("| `full` |") and "none" not in line)
    rows = [json.loads((run / "evaluations/full/metrics.json").read_text())["rows"] for run in (folder, other)]
    decibels = [
        next(row["psnr_moving"]["value"] for row in of_run if (row["row"], row["frames"]) == ("ours", "all"))
        for of_run in rows
    ]
    assert f"| {sum(decibels) / 2:.1f}<br>{decibels[0]:.1f}, {decibels[1]:.1f} |" in line
    run("full", **evaluated, seed=2, steps=3, output_dir=tmp_path / "longer")
    with pytest.raises(ValueError, match="trained with different --steps"):
        results["ablation_section"]([folder / "evaluations", tmp_path / "longer/evaluations"])


def test_photographs_of_whole_things_are_for_an_f_of_its_own(run, tmp_path):
    with pytest.raises(ValueError, match="--evaluate_wholes needs --evaluate_data_dir"):
        run("full", evaluate_wholes=tmp_path)
    shared = ["--train_data_dir", "x", "--pretrained_vae", "x", "--cache_dir", "x", "--output_dir", "x"]
    args = run_ablations.parse_args([*shared, "--image_encoder", "x", "--steps", "1"])
    args.evaluate_wholes = "photographs"
    measured = {name for name in run_ablations.VARIANTS if "--wholes" in run_ablations.evaluation(args, name)}
    assert {"full", "no_features", "no_regions", "plain"} <= measured
    assert not {"no_splat", "coverage", "no_flow_completion", "rollout"} & measured


def test_wrong_evaluation_is_refused_before_the_training(run, tmp_path):
    with pytest.raises(InputError, match="no shards test-"):
        run("plain", evaluate_data_dir=tmp_path)
    with pytest.raises(ValueError, match="'--num-clips': 'three' is not a whole number"):
        run("plain", evaluate_arguments="--num-clips three")
    assert not (run("full") / "plain").exists()


def test_variants_with_other_arguments_are_refused(run):
    run("full")
    with pytest.raises(ValueError, match=r"made with --steps 2, --seed 0; give the same, or another --output_dir"):
        run("full", steps=3, seed=1)


def test_training_on_rollouts_starts_from_the_full_model(run):
    folder = run("rollout")
    made = json.loads((folder / "rollout/ablation.json").read_text())["components"]
    assert {name: part["shared_with"] for name, part in made.items()} == {
        "flow_completion": "full",
        "future_frame": "full",
        "end_to_end": None,
    }
    assert str(folder / "full") in made["end_to_end"]["arguments"]
    full, rollout = (MCDiffPipeline.from_pretrained(folder / variant) for variant in ("full", "rollout"))
    assert rollout.config.conditioning == full.config.conditioning
    for name in ("flow_completion", "unet"):
        before, after = (getattr(pipe, name).state_dict() for pipe in (full, rollout))
        assert any(not torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", run_ablations.VARIANTS)
def test_scripts_understand_the_arguments_of_all_variants(name, tmp_path):
    variant = run_ablations.VARIANTS[name]
    shared = ["--train_data_dir", "x", "--pretrained_vae", "x", "--cache_dir", "x", "--output_dir", str(tmp_path)]
    arguments = run_ablations.parse_args([*shared, "--image_encoder", "x", "--steps", "1"])
    for component, given in run_ablations.component_arguments(variant, arguments).items():
        if component != "end_to_end":  # which reads the folder of the full model
            command_line = [
                *run_ablations.training_arguments(arguments, tmp_path),
                *given,
                *getattr(variant, component),
            ]
            importlib.import_module(f"train_{component}").parse_args(command_line)


def test_all_variants_differ():
    switches = [
        (variant.flow_completion, variant.future_frame, variant.end_to_end)
        for variant in run_ablations.VARIANTS.values()
    ]
    assert len(set(switches)) == len(switches)


def test_missing_budget_is_refused(data, tmp_path):
    arguments = ["--train_data_dir", "x", "--pretrained_vae", "x", "--cache_dir", "x", "--output_dir", str(tmp_path)]
    arguments += ["--image_encoder", "x"]
    with pytest.raises(ValueError, match="have no budget: give --steps, --minutes or both"):
        run_ablations.main(arguments)
