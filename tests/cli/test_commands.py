"""The commands beside `compress`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shrink import models
from shrink.artifact.manifest import check_folder, write_manifest
from tests.cli.conftest import module_of, write_folder
from tests.report.samples import FULL, PROOF


def test_inspect_prints_groups_and_reasons(run, api) -> None:
    result = run("inspect", "net.py:build", "--keep", "0", "--strict")
    assert result.exit_code == 0, result.stderr
    assert "conv1.weight:0" in result.stdout
    assert "network output" in result.stdout
    options = api.calls["inspect"][1]
    assert (options["keep"], options["only"], options["strict"]) == (("0",), (), True)


def test_inspect_as_json_is_the_inspection_and_the_model(run) -> None:
    content = json.loads(run("inspect", "net.py:build", "--json").stdout)
    assert content["model"] == {"name": "net.py:build", "weights": "from the factory (seed 0)"}
    assert content["groups"][0]["size"] == 64
    assert content["warnings"] == []


def test_measure_prints_one_column(run, api) -> None:
    result = run("measure", "net.py:build", "--dtype", "fp16", "--channels-last")
    assert result.exit_code == 0, result.stderr
    assert "82.1 [80.0, 85.3]" in result.stdout
    options = api.calls["measure"][1]
    assert (options["dtype"], options["channels_last"]) == ("fp16", True)


def test_measure_as_json_holds_cost_and_environment(run) -> None:
    content = json.loads(run("measure", "net.py:build", "--json").stdout)
    assert content["cost"]["macs"] == 4089284608
    assert content["environment"]["threads"] == 2


def test_report_prints_the_table_and_writes_markdown_again(run) -> None:
    write_folder(Path("a"))
    Path("a/report.md").unlink()
    Path("a/manifest.json").unlink()
    result = run("report", "a", "--layers")
    assert result.exit_code == 0, result.stderr
    assert "Conv2d" in result.stdout
    assert Path("a/report.md").read_text().startswith("# resnet50")


def test_report_renews_the_manifest_of_an_artifact(run) -> None:
    folder = write_folder(Path("a"))
    (folder / "report.md").write_text("as an older version wrote it")
    for name in ("plan.json", "model.safetensors"):
        (folder / name).write_text("{}")
    names = ["plan.json", "report.json", "report.md", "model.safetensors"]
    write_manifest(folder, names, batch="", no_program="for a test")
    assert run("report", "a").exit_code == 0
    assert (folder / "report.md").read_text().startswith("# resnet50")
    assert check_folder(folder).no_program == "for a test"


def test_report_leaves_a_sound_folder_alone(run) -> None:
    folder = write_folder(Path("a"))
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert run("report", "a").exit_code == 0
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_several_reports_are_compared(run) -> None:
    write_folder(Path("a"))
    write_folder(Path("b"), report=replace(FULL, model={"name": "other"}))
    result = run("report", "a", "b")
    assert result.exit_code == 0, result.stderr
    assert "other" in result.stdout
    assert list(json.loads(run("report", "a", "b", "--json").stdout)) == ["a", "b"]
    assert json.loads(run("report", "a", "--json").stdout)["model"]["name"] == "resnet50"


@pytest.mark.parametrize("command", ["report", "verify"])
def test_a_folder_without_or_with_a_damaged_report_is_refused(run, command: str) -> None:
    Path("a").mkdir()
    result = run(command, "a")
    assert result.exit_code == 2
    assert "ArtifactError: a: the folder holds no report.json" in result.stderr
    Path("a/report.json").write_text("{")
    result = run(command, "a")
    assert result.exit_code == 2
    assert "a/report.json: not a report" in result.stderr


def test_verify_takes_the_recorded_model_and_weights(run, api) -> None:
    recorded = {"name": "net.py:build", "weights": "from the factory (seed 5)"}
    write_folder(Path("a"), report=replace(FULL, model=recorded))
    result = run("verify", "a")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("verified: ")
    assert api.calls["verify"][0][0] == Path("a")
    expected = models.resolve("net.py:build", seed=5).module
    found = module_of(api.calls["verify"], 1)
    assert (found[0].weight == expected[0].weight).all()
    assert json.loads(run("verify", "a", "--json").stdout)["passed"] is True


def test_verify_takes_another_model_when_told(run) -> None:
    write_folder(Path("a"), report=replace(FULL, model={"name": "gone.py:build"}))
    refused = run("verify", "a")
    assert refused.exit_code == 2
    assert "gone.py" in refused.stderr
    assert run("verify", "a", "--model", "net.py:build").exit_code == 0


def test_a_failed_proof_is_exit_code_3(run, api) -> None:
    write_folder(Path("a"))
    api.answers["verify"] = replace(PROOF, passed=False, error=0.5, first_difference="0")
    result = run("verify", "a", "--model", "net.py:build", "--weights", "auto")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "VerificationError: a: VERIFICATION FAILED" in result.stderr
    assert "first at 0" in result.stderr


@pytest.mark.parametrize("plan", ["plan.json", "a"])
def test_apply_replays_a_plan_file_or_the_one_of_a_folder(run, api, plan: str) -> None:
    write_folder(Path("a"))
    result = run("apply", plan, "net.py:build", "--out", "made")
    assert result.exit_code == 0, result.stderr
    ((path,), _) = api.calls["load_plan"]
    assert path == (Path("a/plan.json") if plan == "a" else Path("plan.json"))
    assert module_of(api.calls["apply"], 1)[0].in_features == 4
    options = api.calls["apply"][1]
    assert (options["name"], options["weights"]) == ("net.py:build", "from the factory (seed 0)")
    assert options["warnings"] == ()
    assert Path("made/report.json").is_file()
    assert result.stderr.endswith("wrote made\n")


def test_models_lists_names(run) -> None:
    result = run("models", "resnet1?")
    assert result.exit_code == 0
    assert result.stdout == "resnet18\n"
    assert json.loads(run("models", "resnet1?", "--json").stdout) == ["resnet18"]
    none = run("models", "zzz")
    assert none.stdout == ""
    assert none.stderr == "no name matches 'zzz'; try 'timm:zzz' or 'hf:zzz'\n"
