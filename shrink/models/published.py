"""Pretrained weights where they can be had, random ones where not."""

import http.client
import pickle
import re
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import nn

from shrink.core.errors import InputError

PROBE_SECONDS = 5.0
_WEIGHTS_FIX = "pass --weights FILE, or --weights random"
_DOWNLOAD_ERRORS = (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError)


def choose_weights(
    weights: str,
    seed: int,
    download: Callable[[], nn.Module],
    initialise: Callable[[], nn.Module],
    published: object,
) -> tuple[nn.Module, str, tuple[str, ...]]:
    """Build with pretrained weights, or random ones; returns (module, note, warnings)."""
    warnings: tuple[str, ...] = ()
    if weights in ("auto", "pretrained"):
        try:
            return download(), f"pretrained ({published})", ()
        except (*_DOWNLOAD_ERRORS, http.client.HTTPException) as error:
            cause = " ".join(str(error).split()) or type(error).__name__
            if weights == "pretrained":
                raise InputError(
                    f"pretrained weights cannot be had: {cause}",
                    where=str(published),
                    fix=_WEIGHTS_FIX,
                ) from error
            warnings = (
                f"the weights are RANDOM (seed {seed}): pretrained ones could not be had ({cause});"
                " what is kept and how accurate it is mean nothing, cost and proof do",
            )
    # The generator moved if the download failed half-way.
    torch.default_generator.manual_seed(seed)
    return initialise(), f"random (seed {seed})", warnings


def download(url: str) -> None:
    """Put a published file where torch.hub looks for it, unless it is there.

    Raises:
        OSError: it cannot be had; within `PROBE_SECONDS` where there is no network.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if file.is_file():
        return
    probe(url)
    file.parent.mkdir(parents=True, exist_ok=True)
    expected = re.search(r"-([a-f0-9]{8,})\.", file.name)
    torch.hub.download_url_to_file(url, str(file), expected and expected[1], progress=False)


def probe(url: str) -> None:
    """Ask for a page's head; name resolution has no time limit of its own, so in a thread."""
    outcome: list[BaseException | None] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")  # noqa: S310  published https
            urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()  # noqa: S310
            outcome.append(None)
        except (OSError, http.client.HTTPException) as error:
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    host = urlparse(url).netloc
    if not outcome:
        raise OSError(f"{host} does not answer within {PROBE_SECONDS:g} s")
    if outcome[0] is not None:
        raise OSError(f"{host}: {getattr(outcome[0], 'reason', outcome[0])}") from outcome[0]


def recall_weights(note: str) -> tuple[str, int]:
    """Read a `weights_note` back as the (`weights`, `seed`) that make `resolve` repeat it."""
    seed = re.search(r"\(seed (\d+)\)$", note)
    file = re.match(r"file (.*?)(?: \[\w+\])?$", note)
    if file:
        return file[1], 0
    kind = note.split(" ", 1)[0]
    return kind if kind in ("pretrained", "random") else "auto", int(seed[1]) if seed else 0
