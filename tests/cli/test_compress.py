"""`shrink compress`."""

import json
from pathlib import Path

import pytest
import torch

from shrink.core.report import SCHEMA_VERSION
from tests.cli.conftest import module_of, write_folder


def test_the_options_reach_the_pipeline(run, api) -> None:
    result = run(
        "compress", "net.py:build", "--flops", "0.5", "--criterion", "l1",
        "--ranking", "global", "--input", "3,4", "--device", "cpu", "--dtype", "bf16",
        "--align", "16", "--keep", "0", "--keep", "head.*", "--only", "1", "--free", "output",
        "--strict", "--out", "made", "--seed", "7", "--channels-last", "--no-measure",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    args, options = api.calls["compress"]
    assert module_of(api.calls["compress"])[0].out_features == 8
    assert args[1].args[0].shape == (3, 4)
    options.pop("progress")
    assert options == {
        "flops": 0.5,
        "params": None,
        "criterion": "l1",
        "ranking": "global",
        "align": 16,
        "keep": ("0", "head.*"),
        "only": ("1",),
        "free": ("output",),
        "seed": 7,
        "device": "cpu",
        "dtype": "bf16",
        "measure": False,
        "strict": True,
        "channels_last": True,
        "name": "net.py:build",
        "weights": "from the factory (seed 7)",
        "warnings": (),
    }
    assert Path("made/report.json").is_file()


def test_the_defaults_are_those_of_the_contract(run, api) -> None:
    result = run("compress", "net.py:build", "--flops", "0.5")
    assert result.exit_code == 0, result.stderr
    options = api.calls["compress"][1]
    assert (options["criterion"], options["ranking"], options["align"]) == ("l2", "local", "auto")
    assert (options["device"], options["dtype"], options["measure"]) == ("auto", "fp32", True)
    assert Path("shrink_net_build/report.json").is_file()


def test_the_table_goes_to_stdout_and_progress_to_stderr(run) -> None:
    result = run("compress", "net.py:build", "--flops", "0.5")
    assert "4.09 G" in result.stdout
    assert "WARNING" in result.stdout
    assert "Conv2d" not in result.stdout
    assert "capture" in result.stderr
    assert result.stderr.endswith("wrote shrink_net_build\n")


def test_layers_adds_the_widths(run) -> None:
    assert "Conv2d" in run("compress", "net.py:build", "--flops", "0.5", "--layers").stdout


def test_json_is_all_there_is_on_stdout(run) -> None:
    result = run("compress", "net.py:build", "--flops", "0.5", "--json")
    content = json.loads(result.stdout)
    assert content["schema_version"] == SCHEMA_VERSION
    assert content["after"]["macs"] == 2039284608


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "InputError: compress: no budget"),
        (["--flops", "1.5"], "InputError: --flops: 1.5 is not between 0 and 1"),
        (["--flops", "0"], "InputError: --flops: 0 is not between 0 and 1"),
        (["--params", "nan"], "InputError: --params: nan is not between 0 and 1"),
        (
            ["--flops", "0.5", "--params", "0.5"],
            "InputError: --flops, --params: only one budget at a time",
        ),
        (["--flops", "0.5", "--align", "0"], "InputError: --align: '0' is no multiple"),
        (["--flops", "0.5", "--align", "x"], "InputError: --align: 'x' is no multiple"),
        (["--flops", "0.5", "--device", "tpu"], "InputError: --device tpu: no such device"),
        (["--flops", "0.5", "--weights", "w.pt"], "InputError: --weights: no weights file 'w.pt'"),
        (["--flops", "0.5", "--out", "net.py"], "ArtifactError: net.py: exists"),
        (["--flops", "0.5", "--out", "net.py/x"], "InputError: net.py/x: cannot write in"),
    ],
)
def test_bad_requests_are_refused_before_the_work(
    run, api, options: list[str], message: str
) -> None:
    result = run("compress", "net.py:build", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "\n  fix: " in result.stderr
    assert "compress" not in api.calls


def test_cuda_that_is_absent_is_refused(run, api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = run("compress", "net.py:build", "--flops", "0.5", "--device", "cuda")
    assert result.exit_code == 2
    assert "--device cuda: no CUDA devices are available\n  fix: pass --device cpu" in result.stderr
    assert "compress" not in api.calls


def test_a_folder_is_replaced_only_by_force(run, api) -> None:
    write_folder(Path("made"))
    arguments = ["compress", "net.py:build", "--flops", "0.5", "--out", "made"]
    refused = run(*arguments)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert "compress" not in api.calls
    assert run(*arguments, "--force").exit_code == 0


def test_force_does_not_replace_what_is_no_artifact(run) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("...")
    result = run("compress", "net.py:build", "--flops", "0.5", "--out", "mine", "--force")
    assert result.exit_code == 2
    assert Path("mine/thesis.tex").is_file()
