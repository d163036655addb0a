"""The commands together: help, exit codes, and how errors look."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shrink.core.errors import InputError, PlanError, ShrinkError, VerificationError

COMMANDS = ["compress", "inspect", "measure", "report", "verify", "apply", "models"]
ROOT = Path(__file__).parents[2]


def test_help_lists_the_commands_in_the_order_of_use(run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    section = result.stdout.partition("Commands:")[2]
    assert [line.split()[0] for line in section.splitlines() if line.strip()] == COMMANDS
    assert "..." not in section.replace("...  ", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_json_and_debug(run, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout
    assert "--debug" in result.stdout


@pytest.mark.parametrize(
    "args",
    [
        ["compress"],
        ["nonsense"],
        ["compress", "net.py:build", "--flops", "much"],
        ["compress", "net.py:build", "--flops", "0.5", "--dtype", "fp8"],
        ["compress", "net.py:build", "--flops", "0.5", "--ranking", "best"],
        ["models", "--x"],
    ],
    ids=["no-model", "no-command", "no-number", "no-dtype", "no-ranking", "no-option"],
)
def test_wrong_usage_is_exit_code_2(run, args: list[str]) -> None:
    assert run(*args).exit_code == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PlanError("cannot be met", where="--flops", fix="pass --flops 0.6"), 1),
        (InputError("wrong", where="--flops", fix="pass --flops 0.6"), 2),
        (VerificationError("differs", where="--flops", fix="pass --flops 0.6"), 3),
    ],
)
def test_an_error_is_two_lines_and_an_exit_code(run, api, error: ShrinkError, code: int) -> None:
    api.error = error
    result = run("compress", "net.py:build", "--flops", "0.5")
    assert result.exit_code == code
    expected = f"{type(error).__name__}: --flops: {error.what}\n  fix: pass --flops 0.6\n"
    assert result.stderr.endswith(expected)
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not Path("shrink_net_build").exists()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("flops=0.0011", "--flops 0.0011"),
        ("use device='cpu'", "use --device cpu"),
        ("keep=['layer1.0']", "--keep layer1.0"),
        ("raise min_keep", "raise min_keep"),
    ],
)
def test_a_remedy_names_the_option_not_the_argument(run, api, said: str, shown: str) -> None:
    api.error = PlanError("cannot be met", where="flops=0.5", fix=said)
    result = run("compress", "net.py:build", "--flops", "0.5")
    assert result.stderr.endswith(f"PlanError: --flops 0.5: cannot be met\n  fix: {shown}\n")


def test_debug_adds_the_traceback(run, api) -> None:
    api.error = PlanError("cannot be met")
    result = run("compress", "net.py:build", "--flops", "0.5", "--debug")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("PlanError: cannot be met\n")


def test_a_full_disk_is_no_traceback(run, api) -> None:
    api.error = OSError(28, "No space left on device")
    result = run("compress", "net.py:build", "--flops", "0.5")
    assert result.exit_code == 2
    assert result.stderr.endswith("OSError: [Errno 28] No space left on device\n")


def test_an_interrupt_says_what_was_left_to_do(run, api) -> None:
    api.error = KeyboardInterrupt()
    result = run("compress", "net.py:build", "--flops", "0.5")
    assert result.exit_code == 130
    assert result.stderr.endswith(
        "interrupted in stage capture; still to come: groups, importance, plan, rewrite, verify,"
        " measure, write; nothing was written\n"
    )


def test_python_m_shrink_prints_help_without_loading_torch() -> None:
    code = (
        "import sys, runpy\n"
        "sys.argv = ['shrink', '--help']\n"
        "try:\n    runpy.run_module('shrink', run_name='__main__')\n"
        "except SystemExit as end:\n    code = end.code\n"
        "sys.exit(code or ('torch' in sys.modules))"
    )
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr
    assert "Usage: shrink" in result.stdout
