"""Options refuse what is not offered."""

import pytest

from shrink.core.errors import InputError
from shrink.plan.options import Options


@pytest.mark.parametrize(
    ("options", "where", "fix"),
    [
        ({"align": 7}, "align=7", "align='auto'"),
        ({"align": "8"}, "align=8", "align='auto'"),
        ({"ranking": "gloabl"}, "ranking=gloabl", "ranking='global'"),
        ({"min_keep": 0}, "min_keep=0", "min_keep=1"),
    ],
)
def test_wrong_option_is_refused_with_a_remedy(
    options: dict[str, object], where: str, fix: str
) -> None:
    with pytest.raises(InputError) as caught:
        Options(**options)
    assert (caught.value.where, caught.value.fix) == (where, fix)


@pytest.mark.parametrize("align", [1, 4, 8, 16, 32, "auto"])
def test_offered_alignments_are_accepted(align: object) -> None:
    assert Options(align=align).align == align
