"""Errors the user can cause: what is wrong, where, and one remedy."""


class ShrinkError(Exception):
    """A fact about the user's request, model or files that stops the work.

    Args:
        what: the fact, lower case, with the numbers that disagree.
        where: the name the user wrote or can find (layer, option, file); empty if nowhere.
        fix: one remedy that works when pasted; empty if there is none.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(what, where, fix)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  fix: {self.fix}" if self.fix else head


class InputError(ShrinkError):
    """Wrong usage: an option, a model name, an input shape, a weights file."""


class CaptureError(ShrinkError):
    """The model cannot be captured as a graph."""


class UnsupportedOpError(ShrinkError):
    """An operator has no rule, or is used in a way that its rule does not cover (`strict=True`)."""


class PlanError(ShrinkError):
    """The request is well formed but cannot be met.

    Args:
        closest: the nearest reachable value of the requested ratio, if one is known.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, where: str = "", fix: str = "", closest: float | None = None
    ) -> None:
        super().__init__(what, where=where, fix=fix)
        self.closest = closest


class RewriteError(ShrinkError):
    """No form of the smaller model computes what the plan predicts."""

    exit_code = 3


class VerificationError(ShrinkError):
    """The smaller model does not compute what the original computes without the channels."""

    exit_code = 3


class ArtifactError(ShrinkError):
    """A folder is missing, damaged, tampered with, or does not fit the model."""
