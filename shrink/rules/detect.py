"""Operators of detectors: regions are positions, channels pass."""

from shrink.rules import labels
from shrink.rules.labels import Value
from shrink.rules.registry import couples
from shrink.rules.site import Site


@couples("torchvision::roi_align", "torchvision::roi_pool")
def couple_roi(site: Site) -> Value | list[Value]:
    """Pass the channels on to every region.

    Shapes: x (N, C, H, W); rois (K, 5); result (K, C, *pooled), for `roi_pool` also where the
    maxima were found.
    Source: torchvision.ops.roi_align, torchvision.ops.roi_pool.
    """
    x = site["input"]
    site.freeze(x, [0, 2, 3], "position read by a region of interest")
    site.fix(site["rois"], [0, 1])
    made = []
    for shape in site.shapes:
        made.append(labels.unlabelled(shape))
        made[-1].labels[1] = site.labels(x, 1)
    return made if len(made) > 1 else made[0]


@couples("torchvision::nms", "torchvision::ps_roi_align", "torchvision::ps_roi_pool")
def couple_boxes(site: Site) -> Value | list[Value]:
    """Freeze all: boxes are compared, and channels stand for positions in a region.

    Source: torchvision.ops.nms, torchvision.ops.ps_roi_align.
    """
    site.freeze_all("read as boxes or as positions in a region")
    return site.unlabelled()
