"""The report of a recipe: commands, minutes and tables, and its place in a README."""

import json

import report


def write_run(work_dir):
    (work_dir / "evaluation").mkdir(parents=True)
    (work_dir / "evaluation/report.md").write_text(
        f"# Evaluation of {work_dir}/model\n\n| PSNR |\n|---|\n| 21.5 |\n\n![plot](plot.png)\n"
    )
    (work_dir / "stamps/clips").mkdir(parents=True)
    stamp = {
        "key": "k",
        "minutes": 1.26,
        "commands": [f"python training/render_people.py --output_dir {work_dir}/clips --vae /home/me/a/b/vae"],
    }
    (work_dir / "stamps/clips/people.json").write_text(json.dumps(stamp))
    (work_dir / "stamps/clips/started.json").write_text('{"key": "k"}')


def test_report_has_commands_minutes_and_tables_without_paths_of_this_machine(tmp_path):
    write_run(tmp_path)
    assert report.main(["--work_dir", str(tmp_path)]) == 0
    text = (tmp_path / "report.md").read_text()
    assert "# clips, people: 1.3 minutes\npython training/render_people.py" in text
    assert "--output_dir runs/small-128/clips --vae .../b/vae" in text
    assert "### Evaluation of runs/small-128/model" in text and "| 21.5 |" in text
    assert "plot.png" not in text and str(tmp_path) not in text


def test_section_is_added_to_a_readme_once_and_replaced_later(tmp_path):
    write_run(tmp_path / "work")
    readme = tmp_path / "README.md"
    readme.write_text("# Model\n\nBefore.\n")
    for psnr in ("21.5", "22.5"):
        evaluation = tmp_path / "work/evaluation/report.md"
        evaluation.write_text(evaluation.read_text().replace("21.5", psnr))
        assert report.main(["--work_dir", str(tmp_path / "work"), "--readme", str(readme)]) == 0
        readme.write_text(readme.read_text() if "After." in readme.read_text() else readme.read_text() + "\nAfter.\n")
    text = readme.read_text()
    assert text.startswith("# Model\n\nBefore.\n") and text.rstrip().endswith("After.")
    assert text.count("Made by the recipe") == 1 and "22.5" in text and "21.5" not in text


def test_report_without_an_evaluation_is_refused(tmp_path, capsys):
    assert report.main(["--work_dir", str(tmp_path)]) == 1
    assert "run the stage evaluate first" in capsys.readouterr().err
