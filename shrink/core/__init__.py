"""The types that the stages exchange: frozen dataclasses and errors, no logic but invariants.

Begin with `graph` (what was captured), then `groups`, `plan` and `report`.
"""
