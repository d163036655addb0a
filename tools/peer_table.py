"""The peer table: shrink and Torch-Pruning on torchvision's classification models, one by one.

Every model runs in processes of its own, one thread each, with a time limit. What is done is kept
in the cache file, so an interrupted run goes on where it stopped.

    python tools/peer_table.py --quick                          # eight models, printed
    python tools/peer_table.py --cache FILE --memory regnet_y_128gf
    python tools/peer_table.py --cache FILE --out docs          # all, with the memory above
"""

import argparse
import datetime
import fnmatch
import json
import math
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import torchvision
from jobs import (
    ROOT,
    Cache,
    Facts,
    add_options,
    add_to_cache,
    count,
    cpu_name,
    macs_ratio,
    number,
    parse,
    read_cache,
    reason_of,
    run_all,
    versions,
)

WORKER = Path(__file__).resolve().parent / "peer_worker.py"
BUDGET = 0.5
TOLERANCE = 0.01  # of the original's MACs: what counts as the same
ATTEMPTS = 4
QUICK = (
    "densenet121",
    "googlenet",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet50",
    "shufflenet_v2_x1_0",
    "swin_t",
    "vit_b_16",
)
PACKAGES = ("torch", "torchvision", "torch-pruning", "fvcore", "numpy")


def main() -> int:
    """Run what the arguments ask for and print or write the table."""
    options = read_arguments()
    cache = read_cache(options.cache)
    if options.memory:
        for name in options.memory:
            measure_memory(name, cache, options)
    else:
        every = torchvision.models.list_models(torchvision.models)
        chosen = [n for n in every if fnmatch.fnmatch(n, options.models)]
        if options.quick:
            chosen = [n for n in chosen if n in QUICK]
        run_all(chosen, lambda name: run_model(name, cache, options), options.jobs)
    rows = [make_row(n, cache) for n in sorted({n for job, n in cache if job == "ours"})]
    document = {
        "environment": describe_environment(options),
        "summary": summarise(rows) if rows else {},
        "memory": [make_memory_row(n, cache) for job, n in cache if job == "memory-ours"],
        "models": rows,
    }
    text = to_markdown(document)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "PEER_TABLE.md").write_text(text)
        (options.out / "peer_table.json").write_text(json.dumps(document, indent=1) + "\n")
    else:
        print(text)
    return 0


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--memory", nargs="+", metavar="MODEL", help="measure peak memory instead")
    parser.add_argument("--no-peer", action="store_true", help="shrink only")
    add_options(parser, limit=300)
    return parse(parser)


def run_model(name: str, cache: Cache, options: argparse.Namespace) -> None:
    """Run shrink, then Torch-Pruning with the channel ratio that leaves about the same MACs."""
    ours = run_job(["ours", name], cache, options)
    if options.no_peer:
        return
    target = macs_ratio(ours) or BUDGET
    ratio = 1 - target**0.5  # what a chain of convolutions would need
    for _ in range(ATTEMPTS):
        peer = run_job(["peer", name, str(ratio)], cache, options)
        reached = macs_ratio(peer)
        if reached is None or abs(reached - target) <= TOLERANCE:
            return
        power = math.log(reached) / math.log(1 - peer["channel_ratio"])
        ratio = 1 - target ** (1 / power)
        del cache["peer", name]
    cache["peer", name] = peer


def measure_memory(name: str, cache: Cache, options: argparse.Namespace) -> None:
    """Measure both sides' peak memory on one model."""
    run_job(["memory-ours", name], cache, options)
    ratio = cache.get(("peer", name), {}).get("channel_ratio", 1 - BUDGET**0.5)
    run_job(["memory-peer", name, str(ratio)], cache, options)


def run_job(arguments: list[str], cache: Cache, options: argparse.Namespace) -> Facts:
    """Run one job in its own process, unless the cache holds it, and note what it said."""
    job, name = arguments[:2]
    if (job, name) not in cache:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, str(WORKER), str(options.limit), *arguments]
        process = subprocess.run(  # noqa: S603  our own script
            command, env=environment, capture_output=True, text=True, check=False
        )
        facts: Facts = {}
        for line in process.stdout.splitlines():
            if line.startswith("{") and line.endswith("}"):
                facts |= json.loads(line)
        if process.returncode == -signal.SIGXCPU:
            facts["error"] = f"over {options.limit} CPU s"
        elif process.returncode:
            last = (process.stderr.splitlines() or [""])[-1]
            facts["error"] = f"exit code {process.returncode} {last}"
        cache[job, name] = facts
        add_to_cache(options.cache, job, name, facts)
    return cache[job, name]


def make_row(name: str, cache: Cache) -> Facts:
    """Put what is known of one model together."""
    ours, peer = cache["ours", name], cache.get(("peer", name), {"stage": "", "error": "not run"})
    row: Facts = {"model": name}
    for side, facts in (("ours", ours), ("peer", peer)):
        reason = reason_of(facts)
        macs = macs_ratio(facts)
        if side == "ours" and not reason:
            reason = refuse(facts, macs)
        row[side] = {
            "ok": not reason,
            "reason": reason,
            "macs_ratio": macs,
            "cpu_s_first": facts.get("cpu_s_first"),
            "cpu_s_second": facts.get("cpu_s_second"),
        }
    row["macs_before"] = ours.get("macs_before")
    row["ours"]["form"] = ours.get("form")
    row["ours"]["error_relative"] = ours.get("error_relative")
    row["peer"]["channel_ratio"] = peer.get("channel_ratio")
    both = row["ours"]["ok"] and row["peer"]["ok"]
    for order in ("first", "second"):
        times = [row[side][f"cpu_s_{order}"] for side in ("ours", "peer")]
        row[f"cpu_ratio_{order}"] = times[0] / times[1] if both else None
    return row


def refuse(facts: Mapping[str, Any], macs: float | None) -> str:
    """Hold our own result to the bars; empty where it meets them."""
    if facts["error_relative"] > facts["tolerance"] or facts["dtype"] != "float64":
        return f"certificate {facts['error_relative']:.1e} in {facts['dtype']}"
    if macs is None or not 0.99 * BUDGET <= macs <= BUDGET:
        return f"MACs {macs}, not within [-1 %, 0 %] of {BUDGET}"
    return ""


def make_memory_row(name: str, cache: Cache) -> Facts:
    """Give peak memory in multiples of the model's own bytes."""
    ours, peer = (cache.get((f"memory-{side}", name), {}) for side in ("ours", "peer"))
    return {
        "model": name,
        "model_bytes": ours.get("model_bytes"),
        "ours": _times(ours, "peak_bytes"),
        "ours_verified": _times(ours, "peak_bytes_verified"),
        "verified_in": ours.get("dtype"),
        "peer": _times(peer, "peak_bytes"),
        "reasons": [r for r in (reason_of(ours), reason_of(peer)) if r],
    }


def _times(facts: Mapping[str, Any], key: str) -> float | None:
    return facts[key] / facts["model_bytes"] if key in facts else None


def summarise(rows: list[Facts]) -> Facts:
    """Count and average over the models."""
    summary: Facts = {
        "models": len(rows),
        "ours_ok": sum(r["ours"]["ok"] for r in rows),
        "peer_ok": sum(r["peer"]["ok"] for r in rows),
        "peer_run": sum(r["peer"]["reason"] != "not run" for r in rows),
        "worst_error_relative": max((r["ours"]["error_relative"] or 0.0) for r in rows),
        "forms": count(r["ours"]["form"] for r in rows if r["ours"]["form"]),
    }
    for order in ("first", "second"):
        ratios = {r["model"]: r[f"cpu_ratio_{order}"] for r in rows if r[f"cpu_ratio_{order}"]}
        if ratios:
            worst = max(ratios, key=lambda name: ratios[name])
            summary[f"cpu_ratio_{order}"] = {
                "models": len(ratios),
                "geometric_mean": geometric_mean(ratios.values()),
                "max": ratios[worst],
                "max_model": worst,
                "densenet201": ratios.get("densenet201"),
            }
    return summary


def describe_environment(options: argparse.Namespace) -> Facts:
    """Say where, with what and how the table was made."""
    arguments = [f"--models '{options.models}'"] if options.models != "*" else []
    arguments += ["--quick"] if options.quick else []
    arguments += [f"--jobs {options.jobs}"] if options.jobs != 1 else []
    return {
        "command": " ".join(["python tools/peer_table.py", *arguments, "--out docs"]),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "device": f"cpu ({cpu_name()}), 1 thread",
        "dtype": "float32",
        "batch": 1,
        "limit_cpu_s": options.limit,
        "jobs": options.jobs,
        "python": platform.python_version(),
        **versions(PACKAGES),
    }


def to_markdown(document: Mapping[str, Any]) -> str:
    """Write the table for people."""
    about, summary = document["environment"], document["summary"]
    packages = ", ".join(f"{name} {about[name]}" for name in PACKAGES)
    lines = [
        "# Peer table: torchvision's classification models at half the MACs",
        "",
        f"Made by `{about['command']}` on {about['date']}. Device {about['device']},"
        f" {about['dtype']}, batch {about['batch']}",
        "(training: batch 2) of 224 x 224 pixels (inception_v3: 299), random weights (seed 0),",
        f"Python {about['python']}, {packages}.",
        f"Every model runs in its own process, {about['limit_cpu_s']} CPU s at most.",
        "",
        "- **shrink**: `shrink.compress(model, inputs, flops=0.5)`. *ok*: forward in eval and train"
        " mode, backward on batch 2, output",
        "  shapes unchanged, certificate within 1e-9 in float64, MACs by fvcore within [-1 %, 0 %]"
        " of the request.",
        "- **Torch-Pruning**: `BasePruner`, group L2 importance, per layer, output layers ignored,"
        " nothing set for any architecture; channel",
        "  ratio searched until the MACs are ours to 0.01; the search is not timed, the last of its"
        " runs is the one listed. *ok*: the same",
        "  but the certificate and the budget, which it lacks.",
        "- **CPU s**: process time, one thread. shrink: capture, groups, importance, plan and"
        " rewrite, the search for the budget included.",
        "  Torch-Pruning: graph, importance and pruning at the ratio found. *first*: in a fresh"
        " process, which is what a user gets;",
        "  *second*: again in the same process. **ratio** = shrink / Torch-Pruning, below 1 is"
        " faster.",
        "",
    ]
    if summary:
        lines += [*_summary_lines(summary), "", *_model_lines(document["models"])]
    if document["memory"]:
        lines += ["", "## Peak memory", "", *_memory_lines(document["memory"])]
    return "\n".join(lines) + "\n"


def _summary_lines(summary: Mapping[str, Any]) -> list[str]:
    forms = ", ".join(f"{n} {form}" for form, n in summary["forms"].items())
    lines = [
        "| | shrink | Torch-Pruning |",
        "|---|---|---|",
        f"| models ok | {summary['ours_ok']} of {summary['models']} |"
        f" {summary['peer_ok']} of {summary['peer_run']} run |",
        f"| largest certificate error (relative) | {summary['worst_error_relative']:.1e} | none |",
        f"| form of the result | {forms} | module |",
        "",
        "| CPU time, shrink / Torch-Pruning | models both handle | geometric mean | largest |"
        " densenet201 |",
        "|---|---|---|---|---|",
    ]
    for order in ("first", "second"):
        found = summary.get(f"cpu_ratio_{order}")
        if found:
            lines.append(
                f"| {order} run | {found['models']} | {found['geometric_mean']:.2f} |"
                f" {found['max']:.2f} ({found['max_model']}) | {number(found['densenet201'])} |"
            )
    return lines


def _model_lines(rows: list[Facts]) -> list[str]:
    lines = [
        "## Models",
        "",
        "| model | GMACs | shrink | form | MACs kept | certificate | CPU s first / second |"
        " Torch-Pruning | MACs kept | CPU s first / second | ratio first / second |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours, peer = row["ours"], row["peer"]
        cells = [
            row["model"],
            number(row["macs_before"] and row["macs_before"] / 1e9),
            "ok" if ours["ok"] else "failed",
            ours["form"] or "",
            number(ours["macs_ratio"], "{:.4f}"),
            number(ours["error_relative"], "{:.1e}"),
            _pair(ours["cpu_s_first"], ours["cpu_s_second"]),
            "ok" if peer["ok"] else "not run" if peer["reason"] == "not run" else "failed",
            number(peer["macs_ratio"], "{:.4f}"),
            _pair(peer["cpu_s_first"], peer["cpu_s_second"]),
            _pair(row["cpu_ratio_first"], row["cpu_ratio_second"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    sides: tuple[tuple[str, str], ...] = (("ours", "shrink"), ("peer", "Torch-Pruning"))
    for side, name in sides:
        failed = [r for r in rows if not r[side]["ok"] and r[side]["reason"] != "not run"]
        if failed:
            lines += ["", f"## Why {name} fails", ""]
            lines += [f"- {r['model']}: {r[side]['reason'][:160]}" for r in failed]
    return lines


def _memory_lines(rows: list[Facts]) -> list[str]:
    lines = [
        "Peak resident memory above what the imports take, in multiples of the model's own bytes"
        " (the model itself included).",
        "",
        "| model | model, GB | shrink, capture to rewrite | with the certificate | Torch-Pruning |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row["model"],
            number(row["model_bytes"] and row["model_bytes"] / 1e9),
            number(row["ours"]),
            f"{number(row['ours_verified'])} ({row['verified_in']})",
            number(row["peer"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
        lines += [f"\n{reason}" for reason in row["reasons"]]
    return lines


def _pair(first: float | None, second: float | None) -> str:
    texts: Callable[[float | None], str] = number
    return f"{texts(first)} / {texts(second)}" if first is not None else ""


if __name__ == "__main__":
    sys.exit(main())
