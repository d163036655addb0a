"""Coupled channels, importance, budget and cost in, the plan out: what is kept.

`choose` decides, in three steps with a file each: `ladder` lists the counts a group may have,
`rank` puts all steps down all ladders in one order, and `search` walks that order to the budget.
`write` turns the decision into indices of tensors, and back.
"""
