# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
import json

from loop.validation_history import ValidationHistory


def test_values_are_compared_with_the_last_and_the_best_validation(tmp_path):
    history = ValidationHistory(tmp_path / "log.jsonl")
    assert history.take(100, {"flow_error": 3.0}) == "step 100:\n  flow_error 3.0000"
    assert history.take(200, {"flow_error": 2.0}).endswith(
        "flow_error 2.0000 (better than 3.0000 at step 100, best so far)"
    )
    assert history.take(300, {"flow_error": 2.5}).endswith("flow_error 2.5000 (worse than 2.0000 at step 200)")
    assert history.take(400, {"flow_error": 2.25}).endswith(
        "flow_error 2.2500 (better than 2.5000 at step 300, best 2.0000 at step 200)"
    )
    assert history.take(500, {"flow_error": 2.25}).endswith("(as at step 400, best 2.0000 at step 200)")


def test_larger_psnr_is_better(tmp_path):
    history = ValidationHistory(tmp_path / "log.jsonl")
    history.take(1, {"psnr_moving": 20.0})
    assert "(better than 20.0000 at step 1, best so far)" in history.take(2, {"psnr_moving": 21.0})


def test_resumed_run_compares_with_its_log_and_ignores_steps_that_were_lost(tmp_path):
    lines = [{"step": 100, "flow_error": 3.0}, {"step": 100, "loss": 1.0}, {"step": 300, "flow_error": 1.0}]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4')
    told = ValidationHistory(log).take(200, {"flow_error": 2.0})
    assert told == "step 200:\n  flow_error 2.0000 (better than 3.0000 at step 100, best so far)"


def test_baselines_that_never_change_share_a_line_without_words(tmp_path):
    history = ValidationHistory(tmp_path / "log.jsonl")
    history.take(1, {"epe_model": 2.0, "epe_zero": 3.0, "epe_nearest": 1.0})
    assert history.take(2, {"epe_model": 1.0, "epe_zero": 3.0, "epe_nearest": 1.0}).splitlines() == [
        "step 2:",
        "  epe_model 1.0000 (better than 2.0000 at step 1, best so far)",
        "  epe_zero 3.0000, epe_nearest 1.0000",
    ]
