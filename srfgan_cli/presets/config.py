"""The whole recipe of an experiment as one typed, strict config.

Importing this module does not import torch. Presets (`srfgan_cli.presets.library`) are YAML files of this shape.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from srfgan.models.config import RESNETS, AnyModelConfig, DiscriminatorConfig, MaskRCNNConfig, StrictConfig
from srfgan.models.errors import InputError
from srfgan_cli.presets.facts import Row, load_rows
from srfgan_cli.screen.console import visible

Level = Literal["p2", "p3", "p4", "p5", "p6", "p7"]
Interpolation = Literal["nn", "bilinear", "bicubic"]
AdversarialLoss = Literal["logistic", "hinge", "least_squares"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
StageName = Literal["pretrain", "extract", "finetune"]
Pixels = Annotated[int, Field(ge=32, le=32_768)]
LONGEST = 1_000_000_000
"""Iterations of a stage."""


def _names_a_folder(name: str) -> str:
    """A preset's name, if it is one that a run's folder and files can have.

    Raises:
        ValueError: it is empty, leads elsewhere, cannot be shown or encoded, or leaves no room in a file's name.
    """
    if not name.strip() or name in (".", "..") or set("/\\\n") & set(name) or visible(name) != name:
        raise ValueError(
            "a preset's name names folders: it is not empty, '.' or '..', and has no slash or control character"
        )
    if len(name.encode()) > 200:
        raise ValueError("a preset's name names folders: it has at most 200 bytes")
    return name


PresetName = Annotated[str, AfterValidator(_names_a_folder)]


def _names_weights(name: str) -> str:
    """`none`, `imagenet`, `msra` or a file, which is recognised by its suffix."""
    suffixes = (".pth", ".pt", ".pkl", ".safetensors", ".bin")
    if name not in ("none", "imagenet", "msra") and PurePath(name).suffix.lower() not in suffixes:
        expected = f"'none', 'imagenet', 'msra' or the path of a file ({', '.join(suffixes)})"
        raise PydanticKnownError("literal_error", {"expected": expected})
    return name


def _names_a_row(name: str) -> str:
    if name not in load_rows():
        raise PydanticCustomError("unknown_row", "no table has such a row")
    return name


RowName = Annotated[str, AfterValidator(_names_a_row)]


def _each_once(names: list[str]) -> list[str]:
    """Names of which none comes twice.

    Raises:
        ValueError: one does.
    """
    if doubled := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"each is named once, got {doubled[0]} {names.count(doubled[0])} times")
    return names


EachOnce = AfterValidator(_each_once)


class CropConfig(StrictConfig):
    """Random crops of training images before they are resized (DETR, section 4; Sparse R-CNN's for 300 proposals).

    The defaults are both authors' code's.
    """

    probability: float = Field(0.5, gt=0, le=1)
    short_sides: list[Pixels] = Field([400, 500, 600], min_length=1, max_length=1000)
    """To be cropped, the image is resized so that its short side is one of these, in pixels."""
    smallest: Pixels = 384
    """Height and width of a crop are drawn from here to `largest`, in pixels; a smaller image is not cropped."""
    largest: Pixels = 600

    @model_validator(mode="after")
    def _sizes_in_order(self) -> CropConfig:
        if self.smallest > self.largest:
            raise ValueError(
                f"the smallest crop is larger than the largest, got {self.smallest} and {self.largest}"
            )
        return self


class RotationConfig(StrictConfig):
    """Random rotations of training images before anything else. Masks turn with them, and boxes are drawn anew around
    the masks; around the box's own corners, and so larger than need be, where an object has no mask."""

    quarter_turns: bool = False
    """By 0, 90, 180 or 270 degrees, each as likely, for images without an upper side, as those of a microscope."""
    degrees: float = Field(10.0, ge=0, le=180)
    """An angle of up to this is added, to either side; 0: none. The image keeps its sides, and its corners are cut."""


class ScaleJitterConfig(StrictConfig):
    """Large-scale jitter (Ghiasi et al., Simple Copy-Paste, 2021): training images are resized by a random factor, and
    then cropped or padded to a square, instead of being resized to one of `short_sides`. The range is the article's."""

    smallest: float = Field(0.1, ge=0.01, le=4)
    """The factor is drawn from here to `largest`; at 1 an image just fits into the square."""
    largest: float = Field(2.0, ge=0.01, le=4)
    size: Pixels = 1024
    """Side of the square in pixels."""

    @model_validator(mode="after")
    def _factors_in_order(self) -> ScaleJitterConfig:
        if self.smallest > self.largest:
            raise ValueError(
                f"the smallest factor is larger than the largest, got {self.smallest} and {self.largest}"
            )
        return self


class MosaicConfig(StrictConfig):
    """Four training images made one before anything else happens to it (Bochkovskiy et al., YOLOv4, 2020)."""

    probability: float = Field(0.5, gt=0, le=1)
    """Of a mosaic in an image's place: of it and three others, which meet at a random point."""


class CopyPasteConfig(StrictConfig):
    """Objects of other training images, cut out by their masks and pasted over an image (Ghiasi et al., Simple
    Copy-Paste, 2021, who have `scale_jitter` with it)."""

    probability: float = Field(0.5, gt=0, le=1)
    """Of pasting into an image: about half of the objects of another one, augmented like it."""


class ColourConfig(StrictConfig):
    """Random changes of training images' colours, as torchvision's ColorJitter makes them, in this order."""

    probability: float = Field(0.8, gt=0, le=1)
    """Of a change at all."""
    brightness: float = Field(0.4, ge=0, le=1)
    """The factor is drawn from 1 less and 1 more than this; so are those of contrast and saturation."""
    contrast: float = Field(0.4, ge=0, le=1)
    saturation: float = Field(0.4, ge=0, le=1)
    hue: float = Field(0.1, ge=0, le=0.5)
    """The turn of the colour wheel is drawn from so much to either side; 0.5 is half a turn."""


class SplitConfig(StrictConfig):
    """A split whose files have names of their own."""

    annotations: str = Field(min_length=1)
    """A json in COCO's format (`--train-json`, `--val-json`)."""
    images: str = Field(min_length=1)
    """The folder of its images (`--train-images`, `--val-images`)."""


class DataConfig(StrictConfig):
    """Which images, and how they are cropped and resized."""

    dataset: Literal["coco", "shapes"] = "coco"
    """`coco`: of the user (`--data-root`, or `train` and `val`); `shapes`: generated on the spot."""
    train: SplitConfig | None = None
    """The training images, where they are named instead of found in `--data-root`."""
    val: SplitConfig | None = None
    """The images to score on, likewise."""
    categories: list[str] | None = None
    """Names of the data's classes, by label: a run's config.yaml says with which it trains. Nothing reads it."""
    shapes_train: int = Field(400, ge=1, le=1_000_000)
    """How many images of `shapes` to generate for training."""
    shapes_val: int = Field(80, ge=1, le=1_000_000)
    shapes_size: int = Field(256, ge=64, le=4096)
    """Side of a `shapes` image in pixels."""
    short_sides: list[Pixels] = Field([640, 672, 704, 736, 768, 800], min_length=1, max_length=1000)
    """Training: the short side is drawn from these, in pixels."""
    max_side: Pixels = 1333
    test_short_side: Pixels = 800
    test_max_side: Pixels = 1333
    flip: float = Field(0.5, ge=0, le=1)
    """Probability of a horizontal flip in training."""
    crop: CropConfig | None = None
    """Crop training images before they are resized; none by default."""
    rotation: RotationConfig | None = None
    """Rotate training images; not by default."""
    scale_jitter: ScaleJitterConfig | None = None
    """Resize training images by a random factor to a square of always the same size; not by default."""
    mosaic: MosaicConfig | None = None
    """Train on mosaics of four images; not by default."""
    copy_paste: CopyPasteConfig | None = None
    """Paste objects of other images into training images; not by default. The data must have masks."""
    colour: ColourConfig | None = None
    """Change the colours of training images; none by default. Both images of stages 1 and 2 have the same."""
    aspect_ratio_group_factor: int = Field(0, ge=0, le=16)
    """Training batches are of images of similar width / height: so many groups within 1/2..1 and within 1..2, and those
    beyond. 0: only wide and tall ones apart. As torchvision's `--aspect-ratio-group-factor`."""
    repeat_threshold: float | None = Field(None, gt=0, le=1)
    """Training images with a rare class come again within an epoch (repeat-factor sampling; LVIS has 0.001): a class in
    less than this share of the images, as often as the root of threshold / share. None: every image once."""
    skip_empty: bool = True
    """Leave images without any object out of the training."""
    degradation: Interpolation = "bilinear"
    """How stages 1 and 2 make the half-size image (SRF-GAN, table 6)."""
    workers: int = Field(4, ge=0, le=256)
    """Data loading processes per training process."""
    outside: bool = False
    """Use image files outside the image folder, to which the json's file names lead by `..`, as absolute paths or
    through links. The folder itself may be a link."""
    max_pixels: int = Field(100_000_000, ge=1)
    """Images of more pixels are refused: reading takes some ten bytes of memory a pixel, in every loading process."""

    @model_validator(mode="after")
    def _one_data_set(self) -> DataConfig:
        if self.dataset == "shapes" and (self.train or self.val):
            raise ValueError(
                "data.train and data.val name files, but data.dataset is the built-in shapes; --dataset coco takes them"
            )
        return self

    @model_validator(mode="after")
    def _one_crop(self) -> DataConfig:
        if self.crop and self.scale_jitter:
            raise ValueError("data.crop and data.scale_jitter both crop images; leave one of them out")
        return self


class SolverConfig(StrictConfig):
    """Optimizer and schedule of one stage."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    iterations: int = Field(90_000, ge=1, le=LONGEST)
    batch_size: int = Field(16, ge=1, le=1_000_000)
    """Images per optimizer step, over all processes and accumulation steps."""
    lr: float = Field(0.02, gt=0, le=1000)
    lr_batch_size: int = Field(16, ge=1, le=1_000_000)
    """The batch size `lr` belongs to; another `batch_size` scales the rate linearly."""
    schedule: Literal["steps", "cosine"] = "steps"
    """After the warm-up: `gamma` at each of the `milestones`, or half a cosine wave down to 0 at the end."""
    milestones: list[Annotated[int, Field(ge=1, le=LONGEST)]] = Field([60_000, 80_000], max_length=1000)
    gamma: float = Field(0.1, gt=0, le=1)
    warmup_iterations: int = Field(1000, ge=0, le=LONGEST)
    warmup_factor: float = Field(0.001, ge=0, le=1)
    """Share of the learning rate at iteration 0; grows linearly to 1."""
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0, le=1000)
    """On all trainable parameters but those of normalisation layers and Swin's position biases."""
    decay_all: bool = False
    """Spare none of them."""
    clip_norm: float | None = Field(None, gt=0, le=1e9)
    """Largest norm of the whole gradient; none by default."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Evaluate and save moving averages of the networks, which keep this share of themselves in every step
    (0.9998 is usual); none by default."""
    accumulate: int = Field(1, ge=1, le=1_000_000)
    """Forward-backward passes per optimizer step, each on its share of the batch, for less memory. Not quite one pass
    over the batch: what differs, `--dry-run` says."""
    precision: Precision = "tf32"
    """tf32: float32, whose products a GPU rounds to TF32; without such a GPU the same as fp32. bf16, fp16: mixed.
    Scores are of fp32, whatever this is."""
    compile: bool = False
    """Compile backbone, neck, generator and discriminator (torch.compile); worth it for long runs on GPUs."""
    recompute: bool = False
    """Compute activations of generator and discriminator again in the backward pass instead of keeping them (activation
    checkpointing): less memory for more time."""
    log_every: int = Field(20, ge=1, le=LONGEST)
    checkpoint_every: int = Field(2500, ge=1, le=LONGEST)
    evaluate_every: int = Field(0, ge=0, le=LONGEST)
    """Evaluate the detector on the val split every so many iterations; 0: only at the end."""
    patience: int | None = Field(None, ge=1, le=LONGEST)
    """Stop after so many evaluations without a better AP, of masks where there are any; None: never early. The best
    detector is kept in `best.pt` in any case."""

    @model_validator(mode="after")
    def _milestones_in_order(self) -> SolverConfig:
        if any(b <= a for a, b in zip([0, *self.milestones], self.milestones, strict=False)):
            raise ValueError(f"milestones must be positive and increasing, got {self.milestones}")
        return self

    @model_validator(mode="after")
    def _something_to_wait_for(self) -> SolverConfig:
        if self.patience is not None and not self.evaluate_every:
            raise ValueError(
                f"patience counts evaluations on the way: set evaluate_every too, got {self.patience}"
            )
        return self

    @model_validator(mode="after")
    def _one_way_to_recompute(self) -> SolverConfig:
        if self.recompute and self.compile:
            raise ValueError(
                "recompute and compile exclude each other: compiled networks choose what to keep"
            )
        return self

    def shortened(self, iterations: int) -> SolverConfig:
        """The same schedule stretched or shrunk to `iterations`: milestones keep their share.

        So does the warm-up of a shorter one; in a longer one it stays as it is.

        Raises:
            InputError: that are more than a config can have.
        """
        if iterations > LONGEST:
            raise InputError(f"a stage of {iterations} iterations: there are at most {LONGEST}")
        share = iterations / self.iterations
        milestones = sorted({max(1, round(m * share)) for m in self.milestones})
        warmup = min(self.warmup_iterations, round(self.warmup_iterations * share), iterations - 1)
        update = {
            "iterations": iterations,
            "milestones": [m for m in milestones if m < iterations],
            "warmup_iterations": warmup,
        }
        return self.model_copy(update=update)

    @property
    def misfit(self) -> str | None:
        """What of the schedule lies at or beyond its end, in words; None if all of it comes to pass."""
        late = [f"a warm-up of {self.warmup_iterations}"] if self.warmup_iterations >= self.iterations else []
        steps = self.milestones if self.schedule == "steps" else []
        beyond = [str(milestone) for milestone in steps if milestone >= self.iterations][:4]
        late += [f"milestones {', '.join(beyond)}"] if beyond else []
        return f"{' and '.join(late)} in {self.iterations} iterations" if late else None

    @property
    def images(self) -> int:
        """Training images that are seen, repetitions counted."""
        return self.iterations * self.batch_size

    @property
    def scaled_lr(self) -> float:
        """The learning rate for `batch_size` (linear scaling rule)."""
        return self.lr * self.batch_size / self.lr_batch_size


class AdversarialConfig(StrictConfig):
    """The super-resolved feature loss, L1 + weight * adversarial (SRF-GAN, equations 1 to 3)."""

    weight: float = Field(0.001, ge=0, le=1e6)
    """lambda of equation (2). 0: L1 alone, and no discriminator is trained."""
    loss: AdversarialLoss = "logistic"
    """logistic: the papers' (equations 1 and 2); hinge: as of SN-GAN and BigGAN; least_squares: LSGAN's, with targets 0
    and 1."""
    r1: float = Field(0, ge=0, le=1e6)
    """gamma of R1 (arXiv 1801.04406): the discriminator's loss gets half of this times the squared length of its slope
    at each pixel of the real maps, averaged over them, which makes it smooth there. 0: none, as in the papers."""
    levels: Annotated[list[Level], EachOnce] = Field(["p2", "p3", "p4", "p5"], min_length=1, max_length=6)
    """Pyramid levels that the loss compares; one-stage detectors have none finer than p3."""
    window: int | None = Field(None, ge=8, le=32_768)
    """Side in map pixels of the random window of each map that the discriminator sees, which costs nearly all of
    stage 1; None: whole maps, as in the published code. L1 compares whole maps in any case."""

    @property
    def judged(self) -> bool:
        """Whether there is a discriminator."""
        return self.weight > 0


class DistillConfig(StrictConfig):
    """L1 to the maps that a trained generator, as a larger one, makes of the same half-size image's."""

    weight: float = Field(1.0, gt=0, le=1e6)
    """Of this term, beside the L1 to the target's maps, which is 1."""


class PretrainConfig(StrictConfig):
    """Stage 1: G and D against a frozen detector's pyramid."""

    solver: SolverConfig = SolverConfig(
        iterations=150_000, lr=0.001, milestones=[120_000], warmup_iterations=1000
    )
    adversarial: AdversarialConfig = AdversarialConfig()
    distill: DistillConfig | None = None
    """Learn from a trained generator too: that of `--distill`, or of the run of `sources.distill`. None: the paper's
    loss."""
    equal_phases: bool = False
    """Start the generator's deconvolution with the same weights for all four pixels of a 2x2 cell, so that it draws no
    grid of period two at first (ICNR's idea; not in the papers)."""

    @model_validator(mode="after")
    def _never_scored(self) -> PretrainConfig:
        if self.solver.patience is not None:
            raise ValueError(
                f"stage 1 trains nothing that is scored: no patience, got {self.solver.patience}"
            )
        return self


class ExtractConfig(StrictConfig):
    """Stage 2: the multi-scale SRF extractor M and D."""

    solver: SolverConfig = SolverConfig(iterations=270_000, milestones=[210_000, 250_000])
    adversarial: AdversarialConfig = AdversarialConfig()
    pairing: Literal["same", "different"] = "same"
    """Level pairing of the loss (SRF-GAN, table 7): `same` compares M's P_i of the half-size image with
    F's P_i reduced by half; `different` G(P_{i+1}) of M with P_i of F, both of the original image."""
    anchor_scale: float = Field(0.5, gt=0, le=100)
    """Anchors of M relative to the detector's: halved, because the image is. So are FCOS's sizes of interest."""
    reduction: Interpolation | None = None
    """How F's maps are halved for M's to be compared with; None: as the image (`data.degradation`). The published
    code takes nn whatever the image's."""
    start_from_guide: bool = False
    """M starts from F's weights, head included, as in the published code; otherwise from `initial_weights`."""


class FeatureEnhancementConfig(StrictConfig):
    """Two terms on a ResNet's weights (*Feature Enhancement for Object Detectors*).

    The published values are 1e-5 and 1e-5 for RetinaNet, 1e-5 and 1 for Faster R-CNN.
    """

    l2: float = Field(1e-5, ge=0, le=1e6)
    """Weight of the sum of the norms of res5's parameters, which training makes small: blur-like filters."""
    variance: float = Field(1e-5, ge=0, le=1e6)
    """Weight of the sum of the variances of res3's parameters, which training makes large: edge-like filters."""


class SelfTrainingConfig(StrictConfig):
    """Pseudo-labelled images beside the labelled ones, as in STAC (arXiv 2005.04757)."""

    threshold: float = Field(0.9, gt=0, lt=1)
    """Detections of the teacher from this score on are taken for labels."""
    ratio: float = Field(1.0, gt=0, le=1000)
    """Pseudo-labelled images for each labelled one in a batch."""

    def shares(self, batch_size: int) -> tuple[int, int]:
        """Labelled and pseudo-labelled images of a batch: the nearest to the ratio, at least one of each.

        Raises:
            ValueError: a batch of one image.
        """
        if batch_size < 2:
            raise ValueError("finetune.self_training needs at least 2 images in a batch")
        pseudo = min(max(1, round(batch_size * self.ratio / (1 + self.ratio))), batch_size - 1)
        return batch_size - pseudo, pseudo


Pattern = Annotated[str, Field(min_length=1, max_length=1000)]
"""Of names: `*`, `?` and `[...]` as in a shell, and all the name."""


class FinetuneConfig(StrictConfig):
    """Stage 3: the target detector T; with `reuse: none`, a plain detector."""

    solver: SolverConfig = SolverConfig()
    reuse: Literal["none", "G", "M"] = "M"
    """What T takes over: G alone, or all of M's extractor (backbone, neck and G)."""
    freeze_generator: bool = False
    start_from_guide: bool = False
    """T starts from F's weights, head included, and G takes the place of F's upsampling: what is it worth to a detector
    that is trained already? Not with `reuse: M`, whose extractor would take F's place."""
    freeze: list[Pattern] = Field([], max_length=1000)
    """Patterns of names of parameters that stay as they are, as `backbone.*`: `*` is anything, dots too. Batch norms
    that are frozen whole keep their statistics, too. `model.backbone.freeze_at` comes on top."""
    lr_factors: dict[Pattern, Annotated[float, Field(gt=0, le=1000)]] = Field({}, max_length=1000)
    """Factors on the learning rate by such patterns, as `backbone.*: 0.1`; where several match, they are multiplied,
    in whatever order they stand. The weight decay stays what it is."""
    class_weights: dict[str, Annotated[float, Field(ge=0, le=1000)]] = Field({}, max_length=100_000)
    """Factors on the classification loss of a box or place whose true class has this name; those of all others, and of
    background, are 1. What the loss is divided by stays what it is. Sparse R-CNN has none."""
    feature_enhancement: FeatureEnhancementConfig | None = None
    """Regularise the backbone's early and late stages; none by default."""
    self_training: SelfTrainingConfig | None = None
    """Train on images that a teacher labels too (`--unlabeled`, `--teacher`); by default only on labelled ones."""

    @model_validator(mode="after")
    def _one_start(self) -> FinetuneConfig:
        if self.start_from_guide and self.reuse == "M":
            raise ValueError("finetune.start_from_guide needs finetune.reuse G or none, got M")
        return self

    @model_validator(mode="after")
    def _batch_that_can_be_mixed(self) -> FinetuneConfig:
        if self.self_training is not None:
            self.self_training.shares(self.solver.batch_size)
        return self


class SourcesConfig(StrictConfig):
    """Presets whose runs feed this one; None: derived from the preset's own name."""

    guide: PresetName | None = None
    """The trained plain detector F; default: this preset's name with `_nn`."""
    generator: PresetName | None = None
    """The preset whose `pretrain` run gives G and D; default: this preset."""
    extractor: PresetName | None = None
    """The preset whose `extract` run gives M; default: this preset."""
    distill: PresetName | None = None
    """The preset whose `pretrain` run gives the generator that `pretrain.distill` learns from."""
    detector: PresetName | None = None
    """The preset whose detector this one only evaluates in another way; it then trains nothing of its own."""


class TTAConfig(StrictConfig):
    """Multi-scale testing (test-time augmentation) by `srfgan eval` and at the end of a training; its scores on the
    way are at one scale.

    The numbers are detectron2's.
    """

    enabled: bool = False
    short_sides: list[Pixels] = Field([*range(400, 1201, 100)], min_length=1, max_length=64)
    """The image is seen once at each, in pixels."""
    max_side: Pixels = 4000
    """The long side never exceeds it, whatever the short side."""
    flip: bool = True
    """See it mirrored at each size as well."""


class EvaluationConfig(StrictConfig):
    """How the val split is scored."""

    max_detections: int = Field(100, ge=1, le=100_000)
    """Detections per image that COCO's AP counts; crowded data needs more than 100."""
    count_unusable: bool = False
    """Count ground truth of no area or outside its image, which nothing can find, as pycocotools does, as missed. By
    default it stays out, and `eval` says how many those are."""
    batch_size: int = Field(1, ge=1, le=10_000)
    """Images of one size at a time on each device, at most. More keep a GPU busier, which trainings share; scores stay
    what they are, but for rounding."""
    tta: TTAConfig = TTAConfig()


class Config(StrictConfig):
    """One experiment: model, data, all stages, evaluation, and the papers' rows that it reproduces."""

    name: PresetName = ""
    """The preset's name; names the run's folder."""
    description: str = ""
    """What the preset is for, in words of one's own; what it is, `srfgan presets` says by itself."""
    model: AnyModelConfig = MaskRCNNConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    data: DataConfig = DataConfig()
    stages: Annotated[list[StageName], EachOnce] = Field(
        ["pretrain", "extract", "finetune"], min_length=1, max_length=3
    )
    """The stages that this experiment runs, in this order; the last one's detector is evaluated."""
    pretrain: PretrainConfig = PretrainConfig()
    extract: ExtractConfig = ExtractConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    sources: SourcesConfig = SourcesConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    initial_weights: Annotated[str, AfterValidator(_names_weights)] = "msra"
    """Backbone weights that training starts from: `none`, `imagenet` (timm's), `msra` (detectron2's R-50/R-101), or a
    file (.pth, .pt, .pkl, .safetensors, .bin), of timm's names where the backbone is a `timm/NAME`."""
    sync_bn: bool = False
    """In training on several GPUs, `bn` norms take their statistics over all GPUs' images, in every stage."""
    trackers: Annotated[list[Literal["wandb", "mlflow"]], EachOnce] = Field([], max_length=2)
    """Tools that get a training's losses, learning rate, scores and config too, each with an extra of its name."""
    seed: int = Field(0, ge=0, le=2**32 - 1)
    """Of the first weights, the order of images and every random choice."""
    rows: list[RowName] = Field([], max_length=1000)
    """The table rows that this preset reproduces, as `table1/mask_rcnn_m`; their numbers are shown beside results."""

    @property
    def guide(self) -> str:
        """The preset whose detector is F."""
        return self.sources.guide or f"{self.name}_nn"

    @property
    def references(self) -> list[Row]:
        """Those rows, with their numbers."""
        return [load_rows()[name] for name in self.rows]

    @model_validator(mode="after")
    def _stages_in_order(self) -> Config:
        ordered = [name for name in get_args(StageName) if name in self.stages]
        if self.stages != ordered:
            raise ValueError(
                f"stages run in the order {', '.join(ordered)}, got {', '.join(self.stages)}: the last one's detector "
                "is evaluated"
            )
        return self

    @model_validator(mode="after")
    def _a_pyramid_for_the_first_stages(self) -> Config:
        if not self.model.has_pyramid and (self.stages != ["finetune"] or self.finetune.reuse != "none"):
            raise ValueError(
                f"{self.model.detector} has no pyramid in which anything is upsampled: stages must be [finetune] and "
                f"finetune.reuse none, got {self.stages} and {self.finetune.reuse}"
            )
        if not self.model.has_pyramid and self.finetune.freeze_generator:
            raise ValueError(
                f"{self.model.detector} has no generator: no finetune.freeze_generator, got true"
            )
        return self

    @model_validator(mode="after")
    def _levels_that_the_neck_gives(self) -> Config:
        for name, stage in (("pretrain", self.pretrain), ("extract", self.extract)):
            absent = [level for level in stage.adversarial.levels if level not in self.model.levels]
            if name in self.stages and absent:
                levels = ", ".join(self.model.levels)
                raise ValueError(
                    f"{name}.adversarial.levels: the neck of {self.model.detector} gives {levels}, got {absent[0]}"
                )
        coarsest = self.model.levels[-1]
        different = "extract" in self.stages and self.extract.pairing == "different"
        if different and coarsest in self.extract.adversarial.levels:
            raise ValueError(
                f"extract.adversarial.levels: with extract.pairing different, a level is compared with what G makes of "
                f"the one above it, and the neck of {self.model.detector} gives none above {coarsest}, got {coarsest}"
            )
        return self

    @model_validator(mode="after")
    def _discriminators_that_can_be_trained_so(self) -> Config:
        for name, stage in (("pretrain", self.pretrain), ("extract", self.extract)):
            if name not in self.stages:
                continue
            if stage.solver.recompute and self.discriminator.normalization == "spectral":
                raise ValueError(
                    f"{name}.solver.recompute runs D a second time, in which discriminator.normalization spectral "
                    "would estimate other singular values; they exclude each other"
                )
            if stage.solver.compile and stage.adversarial.r1:
                raise ValueError(
                    f"{name}.adversarial.r1 differentiates D twice, which torch.compile cannot; leave "
                    f"{name}.solver.compile out, got r1 {stage.adversarial.r1:g}"
                )
        return self

    @model_validator(mode="after")
    def _stages_that_can_be_enhanced(self) -> Config:
        backbone = self.model.backbone
        if self.finetune.feature_enhancement is None:
            return self
        if backbone.name not in RESNETS:
            raise ValueError(
                f"finetune.feature_enhancement needs a ResNet's res3 and res5, got backbone {backbone.name}"
            )
        if backbone.freeze_at > 2:
            raise ValueError(
                "finetune.feature_enhancement trains res3, but model.backbone.freeze_at freezes it, "
                f"got {backbone.freeze_at}"
            )
        return self

    @model_validator(mode="after")
    def _enough_detections(self) -> Config:
        given, counted = self.model.inference.detections_per_image, self.evaluation.max_detections
        if counted > given:
            raise ValueError(
                f"evaluation.max_detections counts {counted} detections per image, but "
                f"model.inference.detections_per_image got {given}; raise that too"
            )
        return self
