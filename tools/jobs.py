"""Long runs of many small jobs: a cache that makes them resumable, progress, the environment.

Shared by the scripts of this folder that fill tables.
"""

import argparse
import importlib.metadata
import json
import math
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

ROOT = Path(__file__).resolve().parent.parent

Facts = dict[str, Any]  # Any: JSON values
Cache = dict[tuple[str, str], Facts]


def add_options(parser: argparse.ArgumentParser, *, limit: int) -> None:
    """Add the options that every table has.

    Args:
        limit: CPU seconds that one job may take unless the user says otherwise.
    """
    parser.add_argument("--models", default="*", metavar="PATTERN", help="a glob of names")
    parser.add_argument("--jobs", type=int, default=1, help="models at once")
    parser.add_argument("--limit", type=int, default=limit, help="CPU seconds for each process")
    parser.add_argument("--cache", type=Path, help="JSON lines; default: a fresh temporary file")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the table there")


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line; name a fresh cache where none is given."""
    options = parser.parse_args()
    if options.cache is None:
        options.cache = Path(tempfile.mkdtemp(prefix="shrink_table_")) / "cache.jsonl"
        Console(stderr=True).print(f"cache: {options.cache}")
    return options


def read_cache(path: Path) -> Cache:
    """Read what earlier runs found; a later line replaces an earlier one."""
    if not path.is_file():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {(line["job"], line["model"]): line["facts"] for line in lines}


def add_to_cache(path: Path, job: str, model: str, facts: Mapping[str, Any]) -> None:
    """Append what one job found."""
    with path.open("a") as file:
        file.write(json.dumps({"job": job, "model": model, "facts": facts}) + "\n")


def run_all(names: Sequence[str], run: Callable[[str], None], jobs: int) -> None:
    """Call `run` for every name, `jobs` at once, with a progress bar on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with (
        Progress(*columns, TimeElapsedColumn(), console=console) as progress,
        ThreadPoolExecutor(jobs) as pool,
    ):
        task = progress.add_task("models", total=len(names))

        def step(name: str) -> None:
            progress.update(task, description=name)
            run(name)
            progress.advance(task)

        list(pool.map(step, names))


def reason_of(facts: Mapping[str, Any]) -> str:
    """Say why a job failed; empty if it did not."""
    return ": ".join(p for p in (facts["stage"], facts["error"]) if p) if facts.get("error") else ""


def count(values: Iterable[str]) -> dict[str, int]:
    """Count equal values, the most frequent first."""
    listed = list(values)
    found = {value: listed.count(value) for value in sorted(set(listed))}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def macs_ratio(facts: Mapping[str, Any]) -> float | None:
    """MACs after / before, where a job came so far."""
    return facts["macs_after"] / facts["macs_before"] if "macs_after" in facts else None


def number(value: float | None, form: str = "{:.2f}") -> str:
    """Write a number that may be missing."""
    return "" if value is None or math.isnan(value) else form.format(value)


def cpu_name() -> str:
    """Name of the processor, as the kernel gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of installed packages."""
    return {name: importlib.metadata.version(name) for name in packages}


def commit() -> str:
    """Commit of the working tree, with a plus sign where files of the package differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(  # noqa: S603  our own arguments
            command, capture_output=True, text=True, check=False
        ).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + (
        "+" if git("diff", "HEAD", "--", "shrink") else ""
    )
