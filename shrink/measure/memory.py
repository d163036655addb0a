"""Peak memory of one forward pass."""

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor

from shrink.core.graph import Graph
from shrink.core.inputs import tensors_in
from shrink.measure.prepare import Prepared


def cuda_peak_bytes(prepared: Prepared) -> int:
    """Measure the peak of a forward pass by the CUDA allocator.

    Counts the model's parameters and buffers, the inputs, and what the pass allocates; not what
    else lives on the device. The allocator's peak statistic of the device is reset.

    Args:
        prepared: a model on a CUDA device, with its inputs.
    """
    own = [*prepared.model.parameters(), *prepared.model.buffers(), *tensors_in(prepared.inputs)]
    with torch.inference_mode(), torch.cuda.device(prepared.device):
        prepared.run()  # allocates the workspaces of the libraries
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        prepared.run()
        torch.cuda.synchronize()
        return _bytes(own) + torch.cuda.max_memory_allocated() - before


def activation_peak_bytes(graph: Graph) -> int:
    """Compute the peak of a forward pass from its graph.

    Counts parameters, buffers, the inputs, and the largest sum of intermediate results that are
    alive at once: from the operator that makes them to the last that reads them. Views and in-place
    results share the storage of their base. Workspaces inside an operator are not known.

    Args:
        graph: its batch and dtypes are those of the answer.
    """
    nodes = list(graph.fx.nodes)
    sizes: dict[int, int] = {}
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    held = [*graph.stored.values()]
    for step, node in enumerate(nodes):
        results = tensors_in(node.meta.get("val"))
        if node.op in ("placeholder", "get_attr"):  # the caller holds them all the time
            held += results
        for tensor in results:
            storage = _storage(tensor)
            sizes.setdefault(storage, tensor.untyped_storage().nbytes())
            first.setdefault(storage, step)
        reads = [t for source in node.all_input_nodes for t in tensors_in(source.meta.get("val"))]
        for tensor in (*results, *reads):
            last[_storage(tensor)] = step

    change = [0] * (len(nodes) + 1)
    for storage in sizes.keys() - {_storage(tensor) for tensor in held}:
        change[first[storage]] += sizes[storage]
        change[last[storage] + 1] -= sizes[storage]
    return _bytes(held) + max(itertools.accumulate(change))


def _storage(tensor: Tensor) -> int:
    """Identify the storage of a tensor, real or fake, while the tensor is alive."""
    return int(tensor.untyped_storage()._cdata)


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Sum the sizes of the storages of tensors, shared ones once."""
    sizes = {_storage(tensor): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(sizes.values())
