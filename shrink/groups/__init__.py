"""Graph in, `ChannelGroups` out: which indices of which tensors live or die together.

Begin with `find.py`. `propagate.py` runs the rules over the graph, `resolve.py` turns labels into
units, `partition.py` turns units into groups, `cost.py` writes widths and costs as functions of
the kept counts.
"""
