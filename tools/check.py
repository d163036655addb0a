"""The one gate: format, lint, types, layers and tests. All run; any failure is exit 1."""

import argparse
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = Path(sysconfig.get_path("scripts"))

STATIC = {
    "format": [sys.executable, "-m", "ruff", "format", "--check", "."],
    "lint": [sys.executable, "-m", "ruff", "check", "."],
    "types": [sys.executable, "-m", "mypy"],
    "layers": [str(SCRIPTS / "lint-imports")],
    "op table": [sys.executable, "tools/op_table.py", "--check"],
}
TESTS = {"tests": [sys.executable, "-m", "pytest", "-q", "-m", "not slow and not zoo"]}


def main() -> int:
    """Run the gates and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="everything but the tests")
    gates = STATIC if parser.parse_args().fast else STATIC | TESTS

    lines = []
    failed = False
    for name, command in gates.items():
        print(f"== {name}", flush=True)
        start = time.perf_counter()
        code = subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603
        failed |= code != 0
        verdict = "failed" if code else "passed"
        lines.append(f"{name:<8} {verdict}  {time.perf_counter() - start:6.1f} s")
    print("==", *lines, sep="\n", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
