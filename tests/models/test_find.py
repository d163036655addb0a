"""Which source a name goes to, and what an unknown one is told."""

from pathlib import Path

import pytest

from shrink import models
from shrink.core.errors import InputError


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ResNet-50", "resnet50"),
        ("resnet5", "resnet50"),
        ("vit", "vit_b_16"),
        ("mobilenetv2", "mobilenet_v2"),
    ],
)
def test_an_unknown_name_lists_near_misses(name: str, near: str) -> None:
    with pytest.raises(InputError) as caught:
        models.resolve(name)
    assert near in caught.value.what
    assert caught.value.where == name
    assert "shrink models" in caught.value.fix


def test_a_hopeless_name_lists_none() -> None:
    with pytest.raises(InputError) as caught:
        models.resolve("@@@")
    assert "near" not in caught.value.what


def test_a_folder_that_is_no_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no artifact"):
        models.resolve(str(tmp_path))


def test_names_are_listed_by_glob_or_part() -> None:
    assert models.list_models("resnet1?") == ["resnet18"]
    assert "wide_resnet50_2" in models.list_models("resnet50")
    assert models.list_models("nothing at all") == []
    assert len(models.list_models()) > 100
