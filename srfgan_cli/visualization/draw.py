"""What `srfgan visualize P2` and `visualize detections` do: find a detector and images, draw, and save."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from srfgan.models import build_detector
from srfgan_cli.data.shapes import example_image
from srfgan_cli.screen.console import stderr, styled
from srfgan_cli.visualization.detections import draw
from srfgan_cli.visualization.feature_maps import level_maps
from srfgan_cli.visualization.maps import p2_panel
from srfgan_cli.visualization.pictures import images_of, save_panel, save_pictures, the_one_image
from srfgan_cli.visualization.request import (
    EachMask,
    Request,
    class_names,
    detect,
    find_detector,
    generators,
    read,
    resized,
    trained_subject,
    untrained_note,
)


def draw_level(request: Request, level: str, methods: Sequence[str]) -> Path:
    """Write the panel of one pyramid level by several methods, and return its path.

    Raises:
        InputError: an unknown method, or a detector or image that cannot be read.
    """
    images = the_one_image(request)
    config, trained = find_detector(request, request.weights)
    if trained is None:
        torch.manual_seed(config.seed)
        stderr.print(
            styled(
                ("No trained weights found: the maps are those of random weights.", "yellow"),
                " Name some with --weights.",
            )
        )
        detector = build_detector(config.model).eval()
    else:
        stderr.print(f"Weights: {trained.path}")
        detector = trained.detector
    detector.to(request.device)
    image = resized(config, read(images[0], config) if images else example_image())
    shown = level_maps(
        detector,
        image,
        methods,
        level=level.lower(),
        generators=generators(request, config, detector, methods),
    )
    note = "random weights" if trained is None else untrained_note(shown.untrained, trained.path)
    panel = p2_panel(image, shown.maps, level=level.lower(), note=note)
    return save_panel(panel, level, request, images)


def draw_detections(request: Request, score_threshold: float) -> list[Path]:
    """Draw a trained detector's findings into every image, and return the pictures' paths.

    Files of a folder that are no images are named; so are, at the end, images that cannot be read.

    Raises:
        InputError: no trained detector, or an image that cannot be read, after the others are drawn.
    """
    found = images_of(request)
    subject = trained_subject(request, request.weights)
    names = class_names(subject.trained)

    def image_of(path: Path | None) -> Tensor:
        return example_image() if path is None else read(path, subject.config)

    def drawn(image: Tensor) -> Image.Image:
        findings = detect(subject, image)
        masks = None if findings.mask_probs is None else EachMask(findings, image)
        picture: Image.Image = to_pil_image(
            draw(image, findings, names, score_threshold=score_threshold, masks=masks)
        )
        return picture

    return save_pictures(found, "detections", request, image_of, drawn)
