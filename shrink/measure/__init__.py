"""Any model in, its cost out: MACs, parameters, latency, memory, and the facts of the machine.

Begin with `macs.py` (fvcore's count); `latency.py` times several models in one interleaved loop,
`memory.py` gives the peak of one forward pass, `environment.py` says where it was measured.
"""
