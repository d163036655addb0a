"""Models of torchvision, by name."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from shrink.core.inputs import make_inputs
from shrink.models.published import choose_weights, download
from shrink.models.source import Built, describe_tensor, quiet, seeded


def _images(module: nn.Module, size: int) -> list[Any]:  # noqa: ARG001  one signature for all
    return [describe_tensor(1, 3, size, size)]


def _clips(module: nn.Module, size: int) -> list[Any]:  # noqa: ARG001
    return [describe_tensor(1, 3, 16, size, size)]


def _image_pairs(module: nn.Module, size: int) -> list[Any]:  # noqa: ARG001
    return [describe_tensor(1, 3, 128, 128)] * 2


def _image_lists(module: nn.Module, size: int) -> list[Any]:  # noqa: ARG001
    # Any: torchvision's GeneralizedRCNNTransform; it resizes every image to this size in eval mode
    transform: Any = module.transform
    height, width = transform.fixed_size or (transform.min_size[-1],) * 2
    return [{"list": [describe_tensor(3, height, width)]}]


# By the kind of preprocessing that torchvision publishes with a model.
_FAMILIES: Mapping[str, Callable[[nn.Module, int], list[Any]]] = {
    "ImageClassification": _images,
    "SemanticSegmentation": _images,
    "VideoClassification": _clips,
    "OpticalFlow": _image_pairs,
    "ObjectDetection": _image_lists,
}


def _crop(entry: Any) -> int:  # Any: a torchvision WeightsEnum member
    sizes = getattr(entry.transforms, "keywords", {})  # a bare class has no sizes to bind
    size = sizes.get("crop_size", sizes.get("resize_size", 224))
    return int(size if isinstance(size, int) else size[0])


def list_torchvision() -> list[str]:
    """List the names of torchvision's models."""
    names: list[str] = importlib.import_module("torchvision.models").list_models()
    return names


def build_torchvision(name: str, weights: str, seed: int) -> Built:
    """Build a model of torchvision, with the inputs of its kind."""
    models = importlib.import_module("torchvision.models")
    # A quantizable model takes the float weights of its plain form.
    published = models.get_model_weights(name.removeprefix("quantized_"))
    parameters = inspect.signature(models.get_model_builder(name)).parameters
    backbone = {"weights_backbone": None} if "weights_backbone" in parameters else {}
    entry = published.DEFAULT

    def fetch() -> nn.Module:
        download(entry.url)
        return models.get_model(name, weights=entry)  # type: ignore[no-any-return]

    with quiet(), seeded(seed):
        module, note, warnings = choose_weights(
            weights, seed, fetch, lambda: models.get_model(name, weights=None, **backbone), entry
        )
    # Weights fix the resolution they were trained at; random ones take the smallest in use.
    size = _crop(entry) if note.startswith("pretrained") else min(map(_crop, published))
    family = _FAMILIES[getattr(entry.transforms, "func", entry.transforms).__name__]
    inputs = make_inputs({"args": family(module, size), "kwargs": {}}, seed=seed)
    return Built(module, inputs, note, warnings)
