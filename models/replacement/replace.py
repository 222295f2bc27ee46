"""`replace_upsampling`: the method in models that this project did not build."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from srfgan.models.errors import InputError, kind_of
from srfgan.models.replacement.places import Found, Place, find_places
from srfgan.models.replacement.scope import REGISTERED, is_taken_over, is_upsample, take_over
from srfgan.models.replacement.supply import GIVE, Supply, pyramid_width
from srfgan.models.replacement.torchvision_fpn import UpsamplingPyramid, is_pyramid

_RUN = "give run, a function that runs the model on an example, as run=lambda: model(images)"


def replace_upsampling(
    module: nn.Module,
    upsample: str | nn.Module | Callable[[int], nn.Module],
    run: Callable[[], Any] | None = None,
    *,
    shared: bool = True,
) -> nn.Module:
    """Any torch model with `upsample` wherever it interpolates feature maps by two.

        model = YOLO("yolo11n.yaml").model
        replace_upsampling(model, "srf", lambda: model(torch.zeros(1, 3, 256, 256)))

        detector = torchvision.models.detection.fasterrcnn_resnet50_fpn()
        replace_upsampling(detector, "srf")

    `run` is called once, without gradients and with `module` in evaluation mode, and shows what is interpolated by
    two, and how wide those maps are: `nn.Upsample` layers, and calls of `torch.nn.functional.interpolate` in the
    forward of whichever part of `module` makes them (nearest, bilinear or bicubic; by a factor of 2, or to a size of
    2H or 2H - 1). Other factors stay as they are, and so do masks and images, of one or three channels. torchvision's
    `FeaturePyramidNetwork` is known and needs no run.

    The parts found stay the modules that they are, with their weights and the names of these, and get a subclass of
    their class: it runs the original forward under a `torch.overrides.TorchFunctionMode` that catches the calls.
    Training, autocast, `torch.compile` (in one graph), `torch.export`, `copy.deepcopy` and pickles of the whole module
    work, and need this package where they are read. What a forward upsamples is compared with what it did in `run`,
    so nothing is left interpolated in silence. Not caught: code of `torch.jit.script`, and what
    `torch.utils.checkpoint` inside such a forward computes again.

    The upsamplers' parameters are named `upsamplers.` and the maps' channels behind the name of the part which uses
    them first, as `model.11.upsamplers.256.`; in torchvision's pyramid, `upsample.`. Checkpoints of the original load
    before, or after with `strict=False`. The upsamplers are in training mode where that part is, and else in evaluation
    mode.

    Args:
        module: a model, or a part of one in which to look, and which is changed. A `FeaturePyramidNetwork` itself
            stays as it is; the result shares its convolutions and extra levels.
        upsample: a name of `build_upsampler`'s, or what makes an upsampler from a number of channels, or one upsampler,
            (N, C, H, W) to (N, C, 2H, 2W), for maps that are all as wide. Those guided by the finer map fit
            torchvision's pyramid only, as `interpolate` does not get that map.
        run: runs `module`, or a model around it, on inputs of a usual size, so that no map has a single pixel.
        shared: maps of as many channels have one upsampler, as in the paper. False: each place has its own; a layer
            that is called several times has one for each width.

    Returns:
        `module`, or what to put in its place where it is a `FeaturePyramidNetwork` itself.

    Raises:
        InputError: nothing is interpolated by two; `upsample` does not double maps of the width that it is to take, or
            is one for maps of several widths; or the upsampling is replaced already. Later, when a forward doubles
            other maps than it did in `run`.
    """
    _check_arguments(module, upsample, run)
    found = find_places(module, run) if run is not None else None
    pyramids = [part for part in module.modules() if is_pyramid(part)]
    places = [place for place in found.places if not is_pyramid(place.module)] if found is not None else []
    _check_found(module, pyramids, found)
    _check_places(places)
    if isinstance(upsample, nn.Module):
        _check_one_fits(pyramids, places, shared)
    supply = Supply(upsample, shared, _dtype(module))
    # All are made and tried before anything is changed.
    replaced = {fpn: UpsamplingPyramid(fpn, supply.for_pyramid(fpn)) for fpn in pyramids}
    assigned = [(place.module, *supply.for_place(place)) for place in places]
    for part, assignment, own in assigned:
        take_over(part, assignment, own)
    # By each of its names: one that is left would lead to the old one.
    for name, part in list(module.named_modules(remove_duplicate=False)):
        if name and part in replaced:
            module.set_submodule(name, replaced[part])
    return replaced.get(module, module)


def upsampled_maps(module: nn.Module, run: Callable[[], Any]) -> list[tuple[str, Tensor]]:
    """The maps that `replace_upsampling` would have doubled: what a generator for `module` is trained on.

    Args:
        module: as for `replace_upsampling`; nothing in it changes.
        run: as there.

    Returns:
        The name of the part that does it and the map (N, C, H, W), without gradients, in the order of the calls.

    Raises:
        InputError: there is none, or it was replaced already.
    """
    _check_arguments(module, "nn", run)
    found = find_places(module, run)
    if not found.maps:
        raise InputError(_nothing(module, found))
    return found.maps


def _check_arguments(module: Any, upsample: Any, run: Any) -> None:
    if not isinstance(module, nn.Module):
        raise InputError(f"module is {kind_of(module)}, not a torch module")
    if not callable(upsample) and not isinstance(upsample, str):
        raise InputError(f"upsample is {kind_of(upsample)}; {GIVE}")
    if run is not None and not callable(run):
        raise InputError(f"run is {kind_of(run)}; {_RUN}")
    for name, part in module.named_modules():
        if is_taken_over(part) or isinstance(part, UpsamplingPyramid):
            raise InputError(f"the upsampling of {name or type(part).__name__} is replaced already")


def _check_found(module: nn.Module, pyramids: list[FeaturePyramidNetwork], found: Found | None) -> None:
    """There is something to replace, and nothing that only a run would show."""
    if found is None:
        layers = [name or type(part).__name__ for name, part in module.named_modules() if is_upsample(part)]
        if layers:
            raise InputError(
                f"how wide the maps are that {', '.join(layers)} upsamples only shows in a run: {_RUN}"
            )
        if not pyramids:
            raise InputError(
                f"nothing in {type(module).__name__} is known to upsample without a run of it: {_RUN}"
            )
    elif not pyramids and not found.places:
        raise InputError(_nothing(module, found))


def _nothing(module: nn.Module, found: Found) -> str:
    others = "; ".join(dict.fromkeys(found.others))
    but = f", only by other factors, in {others}" if others else ""
    return (
        f"nothing in {type(module).__name__} interpolates a map (N, C, H, W) of floats by two in this run{but}. "
        "Run it on images of a usual size, and give a model that upsamples by interpolation"
    )


def _check_places(places: list[Place]) -> None:
    """Each can be taken over."""
    for place in places:
        if "forward" in vars(place.module):
            raise InputError(
                f"{place.name} has been given a forward of its own, as accelerate and other wrappers do, which would "
                "hide the replacement; replace the upsampling first"
            )
        if hasattr(place.module, REGISTERED):
            raise InputError(
                f"{place.name}, a {type(place.module).__name__}, has an attribute {REGISTERED!r} already, which is "
                "where the upsamplers would be"
            )


def _check_one_fits(pyramids: list[FeaturePyramidNetwork], places: list[Place], shared: bool) -> None:
    """A single upsampler can take all maps."""
    widths = {pyramid_width(fpn): "the pyramid" for fpn in pyramids}
    widths |= {width: place.name for place in places for width in place.widths}
    if len(widths) > 1:
        which = ", ".join(f"{width} channels in {name}" for width, name in widths.items())
        raise InputError(f"one upsampler was given for maps of several widths, {which}; {GIVE}")
    if not shared:
        raise InputError(f"one upsampler was given, and shared=False wants one for each place; {GIVE}")


def _dtype(module: nn.Module) -> torch.dtype:
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.get_default_dtype())
