"""What every command does the same way: errors, progress, printing, and the folder it writes."""

import functools
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec

import typer
from rich.console import Console, RenderableType
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from shrink.core.errors import InputError, ShrinkError

P = ParamSpec("P")


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Turn errors the user can cause into a message on standard error and an exit code.

    The command's `debug` option adds the traceback.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except BrokenPipeError:
            raise
        except KeyboardInterrupt as interrupt:
            complain(str(interrupt) or "interrupted; nothing was written")
            raise typer.Exit(130) from None
        except (ShrinkError, OSError) as error:
            if kwargs.get("debug"):
                traceback.print_exc()
            complain(f"{type(error).__name__}: {_as_options(str(error))}")
            raise typer.Exit(getattr(error, "exit_code", 2)) from None

    return run


def _as_options(text: str) -> str:
    """Write `flops=0.5`, as the pipeline names its arguments, as the option `--flops 0.5`."""
    names = "flops|params|criterion|ranking|align|keep|only|free|device|dtype"
    value = r"\['([^']+)'\]|'([^']+)'|([^\s,;]*[^\s,;:])"
    return re.sub(rf"\b({names})=(?:{value})", lambda m: f"--{m[1]} {m[2] or m[3] or m[4]}", text)


def complain(text: str) -> None:
    """Write to standard error."""
    print(text, file=sys.stderr)


def warn(warnings: Sequence[str]) -> None:
    """Write the warnings about a model to standard error, where no report will hold them."""
    for text in warnings:
        complain(f"WARNING {text}")


class Stages:
    """Shows on standard error which stage runs and how long each took.

    Args:
        planned: the stages to come, in order, for the message when the user interrupts.
    """

    def __init__(self, planned: Sequence[str]) -> None:
        self._left = list(planned)
        self._console = Console(stderr=True)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Run one stage; an interrupt inside says what was left to do."""
        if stage in self._left:
            self._left.remove(stage)
        start = time.perf_counter()
        try:
            with self._spin(stage):
                yield
        except KeyboardInterrupt:
            left = f"; still to come: {', '.join(self._left)}" if self._left else ""
            raise KeyboardInterrupt(
                f"interrupted in stage {stage}{left}; nothing was written"
            ) from None
        complain(f"{stage:<10} {time.perf_counter() - start:6.1f} s")

    @contextmanager
    def _spin(self, stage: str) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            progress.add_task(stage, total=None)
            yield


def print_rich(renderable: RenderableType) -> None:
    """Print on standard output, in colour on a terminal and never cut to 80 columns in a pipe."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    console.print(renderable)


def print_json(text: str) -> None:
    """Print JSON text on standard output."""
    sys.stdout.write(text)


def choose_folder(out: Path | None, model: str, *, force: bool) -> Path:
    """Decide where the artifact goes, and refuse now what could not be written in the end.

    Args:
        out: what the user asked for; None for `shrink_MODEL` in the working directory.
        model: MODEL as the user wrote it.
        force: an artifact folder that is there may be replaced.

    Raises:
        ArtifactError: the folder exists, or is none of ours.
        InputError: it cannot be written.
    """
    from shrink.artifact.save import check_target  # noqa: PLC0415  it imports torch

    folder = out or Path(f"shrink_{_plain_name(model)}")
    check_target(folder, force=force)
    parent = next(p for p in folder.resolve().parents if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot write in {parent}", where=str(folder), fix="pass --out DIR")
    return folder


def check_device(device: str) -> None:
    """Refuse a device that is not there before any work is done.

    Raises:
        InputError: it is none of auto, cpu, cuda, cuda:N, or this machine lacks it.
    """
    if device in ("auto", "cpu"):
        return
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if not match:
        raise InputError(
            "no such device", where=f"--device {device}", fix="pass auto, cpu, cuda or cuda:N"
        )
    import torch  # noqa: PLC0415  slow, and --help does without

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(match[1] or 0) >= count:
        raise InputError(
            f"{count or 'no'} CUDA devices are available",
            where=f"--device {device}",
            fix="pass --device cpu",
        )


def _plain_name(model: str) -> str:
    target, _, attribute = model.rpartition(":")
    stem = Path(target or attribute).name.removesuffix(".py")
    name = f"{stem}_{attribute}" if target else stem
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip(".") or "model"
