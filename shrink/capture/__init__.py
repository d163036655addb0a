"""Model and example inputs in, `shrink.core.graph.Graph` out; no real arithmetic is run.

Begin with `capture.py`; `dispatch.py` records one forward pass over fake tensors.
"""
