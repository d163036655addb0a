"""Examine the random networks of some seeds in one process, for `tools/fuzz.py`.

Prints a JSON line per network. Run as `python tools/fuzz_worker.py SEED,SEED,...` with the
repository on the path.
"""

import dataclasses
import json
import sys
import warnings

import torch

from tests.laws.fuzz import examine


def main() -> None:
    """Examine the seeds that the argument lists."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of torch, about the networks
    for seed in sys.argv[1].split(","):
        print(json.dumps(dataclasses.asdict(examine(int(seed)))), flush=True)


if __name__ == "__main__":
    main()
