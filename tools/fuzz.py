"""Compress random networks by the thousand and count what comes of them.

Seeds name networks (tests/laws/recipes.py) and requests. What is done is kept in the cache file,
so that an interrupted run goes on where it stopped.

    python tools/fuzz.py --seeds 0:300                                     # printed
    python tools/fuzz.py --seeds 0:10000 --jobs 2 --cache FILE --out docs  # docs/FUZZ.md
    python tools/fuzz.py --reduce 61                                       # why seed 61 fails
"""

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jobs import ROOT, commit, cpu_name, versions
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

WORKER = Path(__file__).resolve().parent / "fuzz_worker.py"
CHUNK = 250  # networks per process: starting one costs as much as ten networks
SILENCE = 300  # seconds after which a process that says nothing is ended
PACKAGES = ("torch", "numpy", "scipy", "hypothesis")
KINDS = {
    "ok": "met the budget",
    "unreachable": "no widths meet the budget: refused with the closest value, compressed to that",
    "nothing": "nothing can be removed: refused, with a reason for all that stays",
    "refused": "refused for another reason",
    "silent": "nothing was removed, without a reason",
    "caught": "the result was wrong, and the certificate or the rewrite said so",
    "crash": "another error, or a promise broken",
    "unsound": "the certificate passed, and the second opinion differs",
}
BAD = ("silent", "caught", "crash", "unsound")

Facts = dict[str, Any]  # Any: JSON values


def main() -> int:
    """Run what the arguments ask for; exit code 1 if a network had a bad outcome."""
    options = read_arguments()
    if options.reduce is not None:
        return show_reduced(options.reduce)
    start, stop = map(int, options.seeds.split(":"))
    found, _ = read_cache(options.cache)
    pending = [seed for seed in range(start, stop) if seed not in found]
    if pending:
        examine_all(pending, options)
    found, walls = read_cache(options.cache)
    rows = [found[seed] for seed in range(start, stop) if seed in found]
    text = to_markdown(rows, walls, options)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "FUZZ.md").write_text(text)
    else:
        print(text)
    return int(any(row["kind"] in BAD for row in rows))


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0:300", metavar="A:B", help="A up to B - 1")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once, one thread each")
    parser.add_argument("--cache", type=Path, help="JSON lines; default: a fresh temporary file")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write FUZZ.md there")
    parser.add_argument("--reduce", type=int, metavar="SEED", help="find what a network needs")
    options = parser.parse_args()
    if options.cache is None:
        options.cache = Path(tempfile.mkdtemp(prefix="fuzz_")) / "cache.jsonl"
    return options


def read_cache(path: Path) -> tuple[dict[int, Facts], list[float]]:
    """Read what earlier runs found, by seed, and how many seconds each run took."""
    lines = path.read_text().splitlines() if path.is_file() else []
    entries = [json.loads(line) for line in lines]
    return {e["seed"]: e for e in entries if "seed" in e}, [
        e["wall_s"] for e in entries if "wall_s" in e
    ]


def examine_all(seeds: Sequence[int], options: argparse.Namespace) -> None:
    """Examine networks in processes of their own, with a progress bar on standard error."""
    chunks = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    counts: Counter[str] = Counter()
    lock = threading.Lock()
    began = time.monotonic()
    made_at = commit()
    with (
        Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress,
        ThreadPoolExecutor(options.jobs) as pool,
        options.cache.open("a") as cache,
    ):
        task = progress.add_task("networks", total=len(seeds))

        def note(facts: Facts) -> None:
            with lock:
                cache.write(json.dumps({**facts, "commit": made_at}) + "\n")
                cache.flush()
                counts[facts["kind"]] += 1
                told = " ".join(f"{kind} {n}" for kind, n in counts.most_common())
                progress.update(task, advance=1, description=told)
                if facts["kind"] in BAD:
                    progress.console.print(f"{facts['seed']} {facts['kind']}: {facts['reason']}")

        list(pool.map(lambda chunk: examine_chunk(chunk, note), chunks))
        cache.write(json.dumps({"wall_s": round(time.monotonic() - began, 1)}) + "\n")


def examine_chunk(seeds: Sequence[int], note: Callable[[Facts], None]) -> None:
    """Examine networks in one process; after one that ends it, in another."""
    left = list(seeds)
    while left:
        before = len(left)
        process = subprocess.Popen(  # noqa: S603  # our own script
            [sys.executable, str(WORKER), ",".join(map(str, left))],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        watch = _watched(process)
        for line in process.stdout or ():
            watch.cancel()
            facts = json.loads(line)
            left.remove(facts["seed"])
            note(facts)
            watch = _watched(process)
        watch.cancel()
        code = process.wait()
        if left and code == 1 and len(left) == before:
            raise SystemExit(f"{WORKER.name} does not start: run it to see why")
        if left:
            note({"seed": left.pop(0), "kind": "crash", "reason": f"the process ended with {code}"})


def _watched(process: subprocess.Popen[str]) -> threading.Timer:
    timer = threading.Timer(SILENCE, process.kill)
    timer.daemon = True
    timer.start()
    return timer


def show_reduced(seed: int) -> int:
    """Print what of a failing network suffices to fail, and how."""
    sys.path.insert(0, str(ROOT))
    from tests.laws.fuzz import examine, reduce, request_of  # noqa: PLC0415  # needs the path
    from tests.laws.recipes import from_seed  # noqa: PLC0415

    warnings.simplefilter("ignore")
    found = examine(seed)
    if found.kind not in BAD:
        print(found)
        return 0
    recipe = reduce(from_seed(seed), lambda part: examine(seed, part).kind == found.kind)
    print(examine(seed, recipe), recipe, request_of(seed), recipe.build(), sep="\n")
    return 1


def to_markdown(rows: Sequence[Facts], walls: Sequence[float], options: argparse.Namespace) -> str:
    """Write the counts for people."""
    counts = Counter(row["kind"] for row in rows)
    cpu = sum(row.get("seconds") or 0.0 for row in rows)
    opinions = [row["opinion"] for row in rows if row.get("opinion") is not None]
    lost = Counter(row["lost"] for row in rows if row.get("lost"))
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    jobs = f" --jobs {options.jobs}" if options.jobs != 1 else ""
    packages = ", ".join(f"{name} {version}" for name, version in versions(PACKAGES).items())
    lines = [
        "# Fuzzing: random networks",
        "",
        f"Made by `python tools/fuzz.py --seeds {options.seeds}{jobs} --cache FILE --out docs` on"
        f" {datetime.datetime.now(datetime.timezone.utc).date().isoformat()}.",
        f"Commit {commits}. Device cpu ({cpu_name()}), one thread per process, float32 (checks in"
        " float64), batch 2.",
        f"Python {platform.python_version()}, {packages}.",
        f"{len(rows)} networks, seeds {options.seeds}; {cpu / 60:.1f} CPU minutes,"
        f" {cpu / max(len(rows), 1):.2f} CPU s per network; {sum(walls) / 60:.1f} minutes of"
        " wall time.",
        "",
        "| outcome | networks | |",
        "|---|---|---|",
        *(f"| {kind} | {counts[kind]} | {what} |" for kind, what in KINDS.items()),
        "",
        "A seed names a network of up to seven parts (`tests/laws/recipes.py`) and a request:"
        " MACs or parameters,",
        "a ratio from 0.30 to 0.80, criterion, ranking, alignment, and sometimes layers to keep."
        " Every result is certified, compared",
        "with a second opinion that shares no code with the certificate (`tests/laws/masked.py`),"
        " evaluated, trained and differentiated",
        "at another batch size; every 25th is saved and loaded. The original must be as it was."
        " Where a budget is refused, widths",
        "are tried at random to see that it is.",
        "",
        f"The second opinion covers {len(opinions)} networks; its largest relative difference is"
        f" {max(opinions, default=0.0):.1e}. It says nothing of",
        f"{sum(lost.values())} networks, whose two versions run different operations.",
    ]
    forms = Counter(row["form"] for row in rows if row.get("form"))
    lines += ["", "Form of the results: " + ", ".join(f"{n} {f}" for f, n in forms.most_common())]
    lines += _reasons(rows)
    return "\n".join(lines) + "\n"


def _reasons(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["kind"] not in ("ok", "unreachable", "nothing"):
            alike = re.sub(r"\d+(\.\d+)?(e-?\d+)?", "#", row["reason"])
            found[row["kind"]][alike].append(row["seed"])
    lines = []
    for kind, reasons in found.items():
        lines += ["", f"## {kind.capitalize()}", ""]
        for reason, seeds in sorted(reasons.items(), key=lambda item: -len(item[1])):
            more = ", ..." if len(seeds) > 5 else ""
            lines.append(f"- {len(seeds)}: {reason} (seeds {', '.join(map(str, seeds[:5]))}{more})")
    return lines


if __name__ == "__main__":
    sys.exit(main())
