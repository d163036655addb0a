"""The coverage board: what shrink does with every model of torchvision, and hundreds of others.

Every model is compressed to half its MACs in a process of its own, on one thread, with a limit of
CPU time, and then checked by what does not rest on the compiler: fvcore's count, forward and
backward passes, and the original with zeros in its weights where that is the same function. What is
done is kept in the cache file, so an interrupted run goes on where it stopped.

    python tools/coverage_board.py --sample                       # one model per family; exit 1
    python tools/coverage_board.py --cache FILE --jobs 2 --out docs
    python tools/coverage_board.py --cache FILE --render --out docs   # what is done so far
    python tools/coverage_board.py --models 'timm:swin*' --cache FILE
    python tools/coverage_board.py --choose                       # remake tools/board_models.json
"""

import argparse
import datetime
import fnmatch
import json
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jobs import (
    ROOT,
    Cache,
    Facts,
    add_options,
    add_to_cache,
    commit,
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

WORKER = Path(__file__).resolve().parent / "board_worker.py"
MODELS = Path(__file__).resolve().parent / "board_models.json"
BUDGET = 0.5
TOLERANCE = 1e-9  # of the certificate
MASKED_TOLERANCE = 1e-6  # other order of sums, weights that cancel
COUNTS_AGREE = {"fvcore": 1e-6, "torch": 5e-3}  # torch leaves norms and pools out
TIMM_NAMES = 300
TIMM_PARAMS = 150_000_000
SAMPLE = (
    "resnet18",
    "vit_b_32",
    "lraspp_mobilenet_v3_large",
    "timm:mobilevitv2_050",
    "hf:bert:tiny",
)
PACKAGES = ("torch", "torchvision", "timm", "transformers", "fvcore", "numpy")
ERRORS = {
    "over the limit": ("over ",),
    "caught by the certificate": ("VerificationError", "RewriteError"),
    "budget out of reach": ("PlanError",),
    "refused": ("CaptureError", "InputError", "UnsupportedOpError"),
}
FAMILIES = ("torchvision", "timm", "hf")


def main() -> int:
    """Run what the arguments ask for and print or write the board."""
    options = read_arguments()
    if options.choose:
        choose_models()
        return 0
    cache = read_cache(options.cache)
    names = list_names()
    chosen = [n for n in names if fnmatch.fnmatch(n, options.models)]
    if options.sample:
        chosen = list(SAMPLE)
    if not options.render:
        run_models([n for n in chosen if ("board", n) not in cache], cache, options)
    rows = [make_row(n, cache["board", n]) for n in chosen if ("board", n) in cache]
    document = {
        "environment": describe_environment(options, rows),
        "not_run": [n for n in chosen if ("board", n) not in cache],
        "summary": {f: summarise([r for r in rows if r["family"] == f]) for f in FAMILIES},
        "all": summarise(rows),
        "models": rows,
    }
    text = to_markdown(document)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "COVERAGE.md").write_text(text)
        (options.out / "coverage.json").write_text(json.dumps(document, indent=1) + "\n")
    else:
        print(text)
    return int(options.sample and any(row["outcome"] != "ok" for row in rows))


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", action="store_true", help=f"only {', '.join(SAMPLE)}")
    parser.add_argument("--render", action="store_true", help="run nothing, write what is cached")
    parser.add_argument("--choose", action="store_true", help="choose the models of timm anew")
    add_options(parser, limit=900)
    return parse(parser)


def list_names() -> list[str]:
    """List the models of the board, as shrink's command line names them."""
    import torchvision  # noqa: PLC0415  seconds; --help needs none

    chosen = json.loads(MODELS.read_text())
    return [
        *torchvision.models.list_models(),
        *(f"timm:{name}" for name in chosen["timm"]),
        *(f"hf:{name}" for name in chosen["hf"]),
    ]


def choose_models() -> None:
    """Choose the models of timm: of every model file the smallest, then the next, and so on.

    Small is the number of parameters times the pixels of the input: what a run costs.
    """
    import timm  # noqa: PLC0415  seconds
    import torch  # noqa: PLC0415

    files: dict[str, list[tuple[float, str]]] = {}
    for name in timm.list_models():
        with torch.device("meta"):
            try:
                model = timm.create_model(name)
            except Exception as error:  # noqa: BLE001  some cannot be built without data
                print(f"{name}: {error}", file=sys.stderr)
                continue
        params = sum(p.numel() for p in model.parameters())
        if params <= TIMM_PARAMS:
            pixels = int(np.prod(model.default_cfg["input_size"]))
            file = timm.models.model_entrypoint(name).__module__
            files.setdefault(file, []).append((float(params) * pixels, name))
    ranked = [
        (rank, cost, name)
        for models in files.values()
        for rank, (cost, name) in enumerate(sorted(models))
    ]
    chosen = [name for _, _, name in sorted(ranked)[:TIMM_NAMES]]
    document = json.loads(MODELS.read_text()) if MODELS.exists() else {"hf": []}
    document["timm"] = sorted(chosen)
    MODELS.write_text(json.dumps(document, indent=1) + "\n")


def run_models(names: Sequence[str], cache: Cache, options: argparse.Namespace) -> None:
    """Run the models that the cache does not hold."""
    local = threading.local()  # one server for each thread of the pool
    servers: list[subprocess.Popen[str]] = []
    state = commit()

    def run(name: str) -> None:
        server = getattr(local, "server", None)
        if server is None or server.poll() is not None:
            server = local.server = start_server(options.limit)
            servers.append(server)
        cache["board", name] = facts = {**ask(server, name), "commit": state}
        add_to_cache(options.cache, "board", name, facts)

    try:
        run_all(names, run, options.jobs)
    finally:
        for server in servers:
            server.kill()


def start_server(limit: int) -> "subprocess.Popen[str]":
    """Start a worker that forks for every model.

    Raises:
        RuntimeError: it cannot start; what it printed is on standard error.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    server = subprocess.Popen(  # noqa: S603  our own script
        [sys.executable, str(WORKER), str(limit)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    if "ready" not in listen(server):
        raise RuntimeError("the worker does not start")
    return server


def ask(server: "subprocess.Popen[str]", name: str) -> Facts:
    """Have one model done; returns all that the worker said of it."""
    if server.stdin is None:
        raise RuntimeError("the worker has no pipes")
    server.stdin.write(f"{name}\n")
    server.stdin.flush()
    return {"stage": "", "error": "the worker ended"} | listen(server)


def listen(server: "subprocess.Popen[str]") -> Facts:
    """Read what a worker says until it is done with one thing."""
    facts: Facts = {}
    for line in server.stdout or ():
        if line == "\n":
            break
        if line.startswith("{") and line.endswith("}\n"):
            facts |= json.loads(line)
    return facts


def make_row(name: str, facts: Mapping[str, Any]) -> Facts:
    """Judge what is known of one model."""
    family = name.partition(":")[0] if ":" in name else "torchvision"
    counted = macs_ratio(facts)
    row: Facts = {"model": name, "family": family, **facts, "macs_ratio": counted}
    row["outcome"], row["reason"] = judge(facts, counted)
    if facts.get("counted_by") == "torch":
        row["macs_ratio"] = facts["reported_ratio"]
    return row


def judge(facts: Mapping[str, Any], reached: float | None) -> tuple[str, str]:
    """Name the outcome of one model, and why it is not ok."""
    error = facts["error"]
    for outcome, starts in ERRORS.items():
        if error.startswith(starts):
            return outcome, reason_of(facts)
    if facts.get("masked", 0.0) > MASKED_TOLERANCE:
        return "wrong", f"{facts['masked']:.1e} from the masked original"
    allowed = COUNTS_AGREE.get(facts.get("counted_by", "fvcore"), 0.0)
    if reached is not None and abs(facts["reported_ratio"] - reached) > allowed:
        return "wrong", f"reports {facts['reported_ratio']:.6f} of the MACs, counted {reached:.6f}"
    if error or reached is None:
        return "crash", reason_of(facts)
    return judge_result(facts, facts["reported_ratio"])


def judge_result(facts: Mapping[str, Any], reached: float) -> tuple[str, str]:
    """Hold a result that ran through all checks to the bars."""
    if not facts["sliced"] or reached >= 1:
        return "no-op", "nothing was removed"
    if facts["error_relative"] > TOLERANCE or facts["dtype"] != "float64":
        return "weak proof", f"{facts['error_relative']:.1e} in {facts['dtype']}"
    if not 0.99 * BUDGET <= reached <= BUDGET:
        return "outside the window", f"{reached:.4f} of the MACs"
    return "ok", ""


def summarise(rows: list[Facts]) -> Facts:
    """Count over models."""
    done = [r for r in rows if r["macs_ratio"] is not None]
    inside = [r for r in done if 0.99 * BUDGET <= r["macs_ratio"] <= BUDGET]
    return {
        "models": len(rows),
        "ok": sum(r["outcome"] == "ok" for r in rows),
        "outcomes": count(r["outcome"] for r in rows),
        "forms": count(r["form"] for r in done),
        "captures": count(r["capture"] for r in done),
        "within_window": len(inside),
        "worst_error_relative": max((r["error_relative"] for r in done), default=None),
        "masked_compared": sum("masked" in r for r in rows),
        "worst_masked": max((r["masked"] for r in rows if "masked" in r), default=None),
        "wrong": sum(r["outcome"] == "wrong" for r in rows),
        "no_ops": sum(r["outcome"] == "no-op" for r in rows),
        "silently_frozen": sum(bool(r.get("unexplained_count")) for r in rows),
        "exponent": fit_exponent(done),
    }


def compile_s(row: Mapping[str, Any]) -> float:
    """CPU seconds from capture to rewrite."""
    return sum(s for stage, s in row["cpu_s"].items() if stage != "verify")


def fit_exponent(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Fit seconds = a * nodes ** b over models captured without data; returns b."""
    points = [(r["nodes"], compile_s(r)) for r in rows if r["capture"] != "real"]
    if len(points) < 3:
        return None
    nodes, seconds = np.log(np.array(points)).T
    return float(np.polyfit(nodes, seconds, 1)[0])


def describe_environment(options: argparse.Namespace, rows: Sequence[Facts]) -> Facts:
    """Say where, with what and how the board was made."""
    return {
        "command": f"python tools/coverage_board.py --cache FILE --jobs {options.jobs} --out docs",
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "commits": count(row["commit"] for row in rows),
        "device": f"cpu ({cpu_name()}), 1 thread",
        "dtype": "float32",
        "limit_cpu_s": options.limit,
        "jobs": options.jobs,
        "python": platform.python_version(),
        **versions(PACKAGES),
    }


def to_markdown(document: Mapping[str, Any]) -> str:
    """Write the board for people."""
    about = document["environment"]
    packages = ", ".join(f"{name} {about[name]}" for name in PACKAGES)
    lines = [
        "# Coverage board: every model at half its MACs",
        "",
        f"Made by `{about['command']}` on {about['date']}; models by commit:"
        f" {_counts(about['commits'])}. Device {about['device']} a model,",
        f"{about['jobs']} models at once, {about['dtype']}, batch 1 (checks: batch 2), each model's"
        " own input size, random weights (seed 0),",
        f"Python {about['python']}, {packages}.",
        f"Every model runs in its own process, {about['limit_cpu_s']} CPU s at most.",
        "",
        "- **ok**: `shrink.compress(model, inputs, flops=0.5)` returns; certificate within 1e-9 in"
        " float64; fvcore's MACs of the smaller model",
        "  (torch's FlopCounterMode, to 0.005, where torch.jit cannot trace the model) within"
        " [-1 %, 0 %] of the request and equal to the report's; forward in eval and train"
        " mode gives the original's output shapes;",
        "  a backward pass in train mode gives gradients. Where nothing is normalised over what"
        " shrinks (and the model has at most 5 GMACs),",
        "  the smaller model also equals the original with zeros in its removed weights, computed"
        " without the compiler.",
        "- **wrong**: a figure or an output that one of these contradicts. **no-op**: a result with"
        " nothing removed. **silently frozen**: models",
        "  with a parameter no dimension of which shrinks or is listed as frozen with a reason.",
        "- **form**: `module` is the user's own classes; `grafts` has submodules generated from the"
        " graph. **capture**: `meta` runs no arithmetic,",
        "  `real` runs the model once, because its control flow depends on values.",
        "- **CPU s**: capture to rewrite / certificate. **peak**: resident memory above the"
        " imports, in multiples of the model's bytes.",
        "",
        *_summary_lines(document),
        "",
        *_reason_lines(document["models"]),
        *_not_run_lines(document["not_run"]),
        *_model_lines(document["models"]),
    ]
    return "\n".join(lines) + "\n"


def _summary_lines(document: Mapping[str, Any]) -> list[str]:
    sides = {**document["summary"], "all": document["all"]}
    sides = {name: side for name, side in sides.items() if side["models"]}
    rows = (
        ("ok", lambda s: f"{s['ok']} of {s['models']}"),
        ("MACs within [-1 %, 0 %] of 0.5", lambda s: f"{s['within_window']} of {s['models']}"),
        ("wrong numbers", lambda s: str(s["wrong"])),
        ("silent no-ops", lambda s: str(s["no_ops"])),
        ("silently frozen", lambda s: str(s["silently_frozen"])),
        ("largest certificate error (relative)", lambda s: number(_worst(s), "{:.1e}")),
        (
            "compared with the masked original; largest error",
            lambda s: f"{s['masked_compared']}; {number(s['worst_masked'], '{:.1e}')}",
        ),
        ("form", lambda s: _counts(s["forms"])),
        ("capture", lambda s: _counts(s["captures"])),
        ("CPU s, capture to rewrite = a * nodes^b: b", lambda s: number(s["exponent"])),
    )
    return [
        f"| | {' | '.join(sides)} |",
        "|---" * (len(sides) + 1) + "|",
        *(f"| {name} | {' | '.join(cell(s) for s in sides.values())} |" for name, cell in rows),
    ]


def _worst(summary: Mapping[str, Any]) -> float | None:
    worst: float | None = summary["worst_error_relative"]
    return worst


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items())


def _reason_lines(rows: list[Facts]) -> list[str]:
    missed = [r for r in rows if r["outcome"] != "ok"]
    if not missed:
        return []
    lines = ["## Not ok, and why", ""]
    lines += [f"- {r['model']}: {r['outcome']}: {r['reason'][:300]}" for r in missed]
    return [*lines, ""]


def _not_run_lines(names: Sequence[str]) -> list[str]:
    return [f"Not run yet ({len(names)}): {', '.join(names)}.", ""] if names else []


def _model_lines(rows: list[Facts]) -> list[str]:
    lines = [
        "## Models",
        "",
        "| model | outcome | form | capture | M params | GMACs | MACs kept | prunable MACs |"
        " certificate | CPU s | peak | nodes | frozen |",
        "|---" * 13 + "|",
    ]
    for row in rows:
        cpu, peak = row.get("cpu_s"), row.get("peak_bytes")
        frozen = [f"{reason} ({n})" for reason, _, n in row.get("frozen", [])]
        cells = [
            row["model"],
            row["outcome"],
            f"{row['grafts']} grafts" if row.get("grafts") else row.get("form", ""),
            row.get("capture", ""),
            number(row.get("params_before", float("nan")) / 1e6),
            number(row.get("macs_before", float("nan")) / 1e9),
            number(row["macs_ratio"], "{:.4f}"),
            number(row.get("prunable_macs")),
            number(row.get("error_relative"), "{:.1e}"),
            f"{compile_s(row):.1f} / {cpu.get('verify', 0):.1f}" if cpu else "",
            f"{peak / row['model_bytes']:.1f}" if peak else "",
            str(row.get("nodes", "")),
            "; ".join(frozen[:3]) + ("; ..." if len(frozen) > 3 else ""),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
