"""Copy-paste: objects of one image in another (Ghiasi et al., Simple Copy-Paste, 2021)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from srfgan.models.instance_masks import InstanceMask, MaskPatch
from srfgan.models.structures import Target
from srfgan_cli.data.drawn import as_boxes, overlap, pixel_bounds, tight, visible
from srfgan_cli.data.mosaic import together
from srfgan_cli.data.placement import draw_below

_HIDDEN = (
    0.9  # of an object's pixels; when more are covered, what is left is no object but slivers around another
)


def draw_pasted(
    image: Tensor, target: Target, other: Tensor, objects: Target, generator: torch.Generator
) -> tuple[Tensor, Target]:
    """`pasted` by the random choices: each object with a probability of one half, and where the other image lies.

    That lies at random within this one, or around it where it is larger.
    """
    chosen = torch.rand(len(objects.labels), generator=generator) < 0.5
    corner = []
    for ours, theirs in zip(image.shape[1:], other.shape[1:], strict=True):
        shift = draw_below(abs(ours - theirs) + 1, generator)
        corner.append(shift if ours >= theirs else -shift)
    masks = [mask for mask, keep in zip(objects.masks or [], chosen.tolist(), strict=True) if keep]
    some = Target(objects.boxes[chosen], objects.labels[chosen], masks)
    return pasted(image, target, other, some, (corner[0], corner[1]))


def pasted(
    image: Tensor, target: Target, other: Tensor, objects: Target, corner: tuple[int, int]
) -> tuple[Tensor, Target]:
    """An image with objects of another one over it.

    Args:
        image: (3, H, W) uint8.
        target: its objects, with masks.
        other: (3, h, w) uint8.
        objects: those of its objects to paste, with masks.
        corner: top and left of the other image in this one, which may be outside.

    Returns:
        The new image, and its target: what is covered leaves its mask, and boxes are drawn anew around what is left.
        Objects of which more than nine tenths are covered are dropped.
    """
    size, other_size = (image.shape[1], image.shape[2]), (other.shape[1], other.shape[2])
    above = _moved(objects, other_size, corner, size)
    assert above.masks is not None and target.masks is not None
    cover = np.zeros(size, bool)
    for patch in above.masks:
        assert isinstance(patch, MaskPatch)
        cover[_window(patch)] |= patch.pixels > 0
    image = image.clone()
    outer, inner = overlap(other_size, corner, size)
    image[:, *outer] = torch.where(torch.from_numpy(cover)[outer], other[:, *inner], image[:, *outer])
    return image, together([_below(target, cover), above])


def _moved(
    objects: Target, source: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
) -> Target:
    """What an image of `size` shows of objects that one of `source` shows, if that lies at `corner`; as pixels."""
    kept, masks = [], []
    for number, mask in enumerate(objects.masks or []):
        patch = visible(mask, source)
        patch = patch and visible(patch.moved(corner[1], corner[0]), size)
        if patch is not None:
            kept.append(number)
            masks.append(patch)
    return Target(as_boxes([patch.span for patch in masks]), objects.labels[kept], list(masks))


def _below(target: Target, cover: np.ndarray) -> Target:
    """What is seen of the objects below `cover`, (H, W) bool."""
    kept, boxes, masks = [], [], []
    for number, (box, mask) in enumerate(zip(target.boxes.double().numpy(), target.masks or [], strict=True)):
        rest = _uncovered(box, mask, cover)
        if rest is not None:
            kept.append(number)
            boxes.append(rest[0])
            masks.append(rest[1])
    return Target(as_boxes(boxes), target.labels[kept], masks)


def _uncovered(
    box: np.ndarray, mask: InstanceMask, cover: np.ndarray
) -> tuple[np.ndarray, InstanceMask] | None:
    """Box and mask of what is seen of an object; None: too little."""
    size = (cover.shape[0], cover.shape[1])
    (left, top), (right, bottom) = (bound.tolist() for bound in pixel_bounds(mask.extent, size))
    patch = visible(mask, size) if cover[top:bottom, left:right].any() else None
    if patch is None:
        return box, mask
    pixels, above = patch.pixels > 0, cover[_window(patch)]
    if not (pixels & above).any():
        return box, mask
    left, top = patch.span[:2].astype(int).tolist()
    rest = tight(pixels & ~above, (left, top), size)
    if rest is None or rest.pixels.sum() < (1 - _HIDDEN) * pixels.sum():
        return None
    return rest.span, rest


def _window(patch: MaskPatch) -> tuple[slice, slice]:
    """Rows and columns of its image that a patch of whole pixels covers."""
    left, top, right, bottom = patch.span.astype(int).tolist()
    return slice(top, bottom), slice(left, right)
