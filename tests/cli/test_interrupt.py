"""Ctrl-C in the middle of a real run: one line, exit code 130, and no half-written folder."""

import subprocess
import sys
from pathlib import Path

MODEL = """
import os, signal
from torch import nn, zeros

class Stops(nn.Linear):
    def __deepcopy__(self, memo):
        os.kill(os.getpid(), signal.SIGINT)
        return self

def build():
    return nn.Sequential(Stops(4, 64), nn.Linear(64, 2)), zeros(1, 4)
"""


def test_ctrl_c_leaves_nothing_behind_and_says_what_was_to_come(tmp_path: Path) -> None:
    (tmp_path / "stops.py").write_text(MODEL)
    command = [sys.executable, "-m", "shrink", "compress", "stops.py:build", "--flops", "0.5"]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(  # noqa: S603
        [*command, "--out", "out"],
        cwd=tmp_path,
        env={"PYTHONPATH": root, "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert "interrupted in stage capture; still to come: groups" in done.stderr
    assert not (tmp_path / "out").exists()
