"""A detector: pixels in, losses or detections out. The same for every kind of head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from srfgan.models.config import InferenceConfig, ModelConfig
from srfgan.models.inputs import check_images, check_targets, check_weights
from srfgan.models.ops.boxes import Size
from srfgan.models.ops.masks import paste_masks
from srfgan.models.ops.recorded import Recorded
from srfgan.models.ops.transfer import to_device
from srfgan.models.structures import Detections, Target


class Head(Protocol):
    """What a detector needs of its head, besides being a module."""

    inference: InferenceConfig

    def losses(
        self, pyramid: dict[str, Tensor], sizes: Sequence[Size], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """Scalar training losses by name."""

    def detect(self, pyramid: dict[str, Tensor], sizes: Sequence[Size]) -> list[Detections]:
        """Detections of each image, with masks as `mask_probs`."""


class MaskedHead(Head, Protocol):
    """A head with masks, which can also be asked for boxes and masks one after the other."""

    def detect_boxes(self, pyramid: dict[str, Tensor], sizes: Sequence[Size]) -> list[Detections]:
        """As `detect`, without masks."""

    def add_masks(
        self, pyramid: dict[str, Tensor], detections: Sequence[Detections], sizes: Sequence[Size]
    ) -> None:
        """Set `mask_probs`, and `mask_scores` if the head has them, of each image's boxes, wherever these are from."""


class Detector(nn.Module):
    """Backbone, neck and head, with the pixel convention that its weights were trained with.

    Attributes:
        config: what the detector was built from.
        neck: its `upsample` is the interpolation or the generator G.
    """

    head: Head
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: ModelConfig, *, backbone: nn.Module, neck: nn.Module, head: Head) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self._recorded: Recorded | None = None
        for name, values in (("pixel_mean", config.pixel.mean), ("pixel_std", config.pixel.std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    @property
    def upsample(self) -> nn.Module:
        """The neck's upsampler: an interpolation, or the generator G."""
        module: nn.Module = self.neck.upsample  # type: ignore[assignment]
        return module

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """Losses in training mode, detections with pasted masks in evaluation mode.

        Args:
            images: (3, H, W) RGB each, uint8 or of any other number type, in 0..255 and not normalised; sizes may
                differ. A batch (N, 3, H, W) counts as its N images, and an empty list detects nothing. On any device.
            targets: ground truth of each image, needed in training mode and ignored in evaluation mode.

        Raises:
            InputError: images or targets are not as said above. Their values are looked at on the CPU only; of floats
                that are most likely scaled to 0..1 it warns.
        """
        if self.training:
            check_weights(self.pixel_mean.dtype)
            check_images(images)
            check_targets(targets, images, self.config)
            assert targets is not None
            return self.losses(images, targets)
        detections = self.detect(images)
        for found, image in zip(detections, images, strict=True):
            if found.mask_probs is not None:
                height, width = image.shape[-2:]
                found.masks = paste_masks(found.mask_probs, found.boxes, (height, width))
        return detections

    def losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """As training-mode `forward`, of images and targets that need no check."""
        batch, sizes = self.preprocess(images)
        return self.losses_from_pyramid(self.pyramid(batch), sizes, targets)

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """As evaluation-mode `forward`, but with masks left as `mask_probs`, for pasting elsewhere."""
        check_weights(self.pixel_mean.dtype)
        check_images(images)
        if not len(images):
            return []
        batch, sizes = self.preprocess(images)
        pyramid = self.pyramid(batch) if self._recorded is None else self._recorded(batch)
        return self.detect_from_pyramid(pyramid, sizes)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """On a GPU `detect` plays back recordings of backbone and neck (`models.ops.recorded`), until the block ends.

        For many images in evaluation mode and inference mode, whose detector stays as it is meanwhile. Elsewhere, and
        with `config.inference.cuda_graphs` false, nothing changes.
        """
        before = self._recorded
        self._recorded = Recorded(self.pyramid) if self.config.inference.cuda_graphs else None
        try:
            yield
        finally:
            self._recorded = before

    @contextmanager
    def at_threshold(self, threshold: float) -> Iterator[None]:
        """Another score threshold, 0..1, in head and config, until the block ends."""
        config, own = self.config, self.head.inference
        self.head.inference = own.model_copy(update={"score_threshold": threshold})
        self.config = config.model_copy(update={"inference": self.head.inference})
        try:
            yield
        finally:
            self.head.inference, self.config = own, config

    def preprocess(self, images: Sequence[Tensor]) -> tuple[Tensor, list[Size]]:
        """Normalise and pad `images` to one batch.

        Returns:
            (N, 3, H, W) float32 on the model's device, in the model's channel order, padded with zeros
            at the right and bottom to a multiple of `config.size_divisibility`; and each image's height and width.
        """
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        unit = self.config.size_divisibility
        height, width = (-(-max(side) // unit) * unit for side in zip(*sizes, strict=True))
        # Channels last, and with it every feature map: convolutions then need no reordering of their input.
        batch = torch.empty(
            (len(images), 3, height, width),
            dtype=torch.float32,
            device=self.pixel_mean.device,
            memory_format=torch.channels_last,
        ).zero_()
        mean, std = _row(self.pixel_mean, width), _row(self.pixel_std, width)
        for index, (image, (rows, columns)) in enumerate(zip(images, sizes, strict=True)):
            pixels, window = to_device(image, batch.device), batch[index, :, :rows, :columns]
            if self.config.pixel.order == "BGR":
                for channel in range(3):
                    window[channel] = pixels[2 - channel]
            else:
                window.copy_(pixels)
            window.sub_(mean[..., :columns]).div_(std[..., :columns])
        return batch, sizes

    def pyramid(self, batch: Tensor) -> dict[str, Tensor]:
        """Feature pyramid {"p2": (N, C, H/4, W/4), ..., "p6": ...} of a preprocessed batch."""
        pyramid: dict[str, Tensor] = self.neck(self.backbone(batch))
        return pyramid

    def losses_from_pyramid(
        self, pyramid: dict[str, Tensor], sizes: Sequence[Size], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """Scalar losses by detectron2's names; `targets` are moved to the model's device."""
        targets = [target.to(self.pixel_mean.device) for target in targets]
        return self.head.losses(pyramid, sizes, targets)

    def detect_from_pyramid(self, pyramid: dict[str, Tensor], sizes: Sequence[Size]) -> list[Detections]:
        """Detections of each image, with masks as `mask_probs`."""
        return self.head.detect(pyramid, sizes)


def _row(values: Tensor, width: int) -> Tensor:
    """`values` (3, 1, 1) for `width` pixels, with channels last: CPUs work along rows, not on three numbers each."""
    return values.expand(3, 1, width).permute(1, 2, 0).contiguous().permute(2, 0, 1)


def recorded(model: object) -> AbstractContextManager[None]:
    """`Detector.recorded` of a detector; whatever else detects, as an exported file, does so as ever."""
    return model.recorded() if isinstance(model, Detector) else nullcontext()
