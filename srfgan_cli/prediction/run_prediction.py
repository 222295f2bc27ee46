"""What `srfgan predict` does: find files, detect, write, and say at the end what could not be read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srfgan.models.detector import recorded
from srfgan.models.errors import InputError
from srfgan_cli.data.categories import CategoryMap, names_in
from srfgan_cli.data.images import read_image
from srfgan_cli.prediction.found import Prediction
from srfgan_cli.prediction.outputs import Kind, Outputs, new_folder
from srfgan_cli.prediction.predictor import Predictor, batches
from srfgan_cli.prediction.sources import Sources
from srfgan_cli.prediction.video import Video, VideoError, require_av, writer
from srfgan_cli.presets.library import did_you_mean
from srfgan_cli.screen.console import stderr
from srfgan_cli.screen.progress import progress_bar

_AHEAD = 4
"""Images that are read while others are looked at, besides a batch."""
_NAMED = 20
"""How many files that cannot be read are named."""


@dataclass(frozen=True)
class Request:
    """What is wanted of the images; as the options of the command."""

    score_threshold: float = 0.5
    batch_size: int = 1
    tiles: int | None = None
    overlap: float = 0.2
    classes: str | None = None
    kinds: Sequence[Kind] = ()
    output: Path | None = None
    strict: bool = False


@dataclass
class Summary:
    """What became of it.

    Attributes:
        output: the folder.
        images: looked at, frames of videos among them.
        videos: looked at, wholly or in part.
        classes: detections of each, most first.
        unreadable: what is wrong with each file that could not be read to its end.
        seconds: from the first file to the last.
    """

    output: Path
    images: int = 0
    videos: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def told(self) -> str:
        """For people, in one or two lines."""
        counts = ", ".join(f"{count} {name}" for name, count in [*self.classes.items()][:_NAMED])
        more = ", ..." if len(self.classes) > _NAMED else ""
        return f"{self.images} images in {self.seconds:.1f} s: {counts or 'nothing found'}{more}"

    def as_json(self) -> dict[str, Any]:
        """The document of `srfgan predict --json`."""
        return {
            "output": str(self.output),
            "images": self.images,
            "videos": self.videos,
            "detections": sum(self.classes.values()),
            "classes": self.classes,
            "unreadable": self.unreadable,
            "seconds": round(self.seconds, 3),
        }


def run_prediction(predictor: Predictor, sources: Sources, request: Request) -> Summary:
    """Look at all files and write what was found; a file that cannot be read costs nothing but itself.

    Raises:
        InputError: an unknown class, a threshold that the detector cannot have, a folder that cannot be written, or
            with `strict` the first file that cannot be read; what was found before is written.
    """
    wanted = _labels(request.classes, predictor.categories)
    # Refused before there is a folder, which would be in the next call's way.
    predictor.lowered(request.score_threshold)
    if sources.videos:
        require_av()
    with new_folder(request.output) as folder:
        return _into(folder, predictor, sources, request, wanted)


def _into(
    folder: Path, predictor: Predictor, sources: Sources, request: Request, wanted: Tensor | None
) -> Summary:
    summary = Summary(folder)
    outputs = Outputs(summary.output, request.kinds, predictor.categories, request.score_threshold)
    started = time.perf_counter()
    bar = progress_bar()
    try:
        with bar, recorded(predictor.model):
            task = bar.add_task("images", total=len(sources.images) + len(sources.videos))
            work = _Work(predictor, request, wanted, outputs, summary, lambda: bar.advance(task))
            work.images(sources.images)
            for video in sources.videos:
                work.video(video, bar)
    finally:
        summary.seconds = time.perf_counter() - started
        summary.classes = dict(outputs.counts.most_common())
        outputs.finish()
    return summary


def require_all(summary: Summary, files: int) -> None:
    """Say which files could not be read, if any.

    Raises:
        InputError: names them.
    """
    if not summary.unreadable:
        return
    lines = "".join(f"\n  {line}" for line in summary.unreadable[:_NAMED])
    more = len(summary.unreadable) - _NAMED
    raise InputError(
        f"{len(summary.unreadable)} of {files} files cannot be read; the rest is done:{lines}"
        + (f"\n  and {more} more" if more > 0 else "")
    )


@dataclass
class _Work:
    predictor: Predictor
    request: Request
    wanted: Tensor | None
    outputs: Outputs
    summary: Summary
    advance: Callable[[], None]
    next_id: int = 1

    def images(self, paths: Sequence[Path]) -> None:
        ids = dict(zip(paths, _image_ids(paths), strict=True))
        self.next_id = max(ids.values(), default=0) + 1
        read = _read_ahead(paths, self.predictor.max_pixels, self.request.batch_size + _AHEAD)
        for batch in batches(self._readable(read), self.request.batch_size):
            for (path, image), found in zip(batch, self._detect([image for _, image in batch]), strict=True):
                self.outputs.add(str(path), ids[path], image, found, name=path.stem)
                self.summary.images += 1
                self.advance()

    def video(self, path: Path, bar: Any) -> None:
        try:
            video = Video(path)
            task = bar.add_task(path.name, total=video.frames or None)
            self._frames(video, lambda: bar.advance(task))
        except VideoError as error:
            self._unreadable(error)
        self.advance()

    def _frames(self, video: Video, advance: Callable[[], None]) -> None:
        target = self.outputs.video(video.path.stem)
        seen = 0
        with writer(target, video.rate) as annotated:
            for batch in batches(iter(video), self.request.batch_size):
                self.summary.videos += not seen
                for frame, found in zip(batch, self._detect(batch), strict=True):
                    name = f"{video.path}#{seen}"
                    crops = f"{video.path.stem}-{seen}"
                    self.outputs.add(name, self.next_id, frame, found, name=crops, has_picture=False)
                    if annotated is not None:
                        annotated.write(self.outputs.drawn(frame, found, enlarge=False))
                    self.next_id, seen = self.next_id + 1, seen + 1
                    self.summary.images += 1
                    advance()

    def _readable(self, read: Iterator[tuple[Path, Tensor | InputError]]) -> Iterator[tuple[Path, Tensor]]:
        for path, image in read:
            if isinstance(image, InputError):
                self._unreadable(image)
                self.advance()
            else:
                yield path, image

    def _unreadable(self, error: InputError) -> None:
        if self.request.strict:
            raise error
        self.summary.unreadable.append(str(error))
        stderr.print(f"Skipped: {error}", style="yellow")

    def _detect(self, images: Sequence[Tensor]) -> list[Prediction]:
        options = self.request
        found = self.predictor.detect(
            images, options.score_threshold, options.batch_size, options.tiles, options.overlap
        )
        if self.wanted is None:
            return found
        return [one.select(torch.isin(one.labels, self.wanted)) for one in found]


def _read_ahead(
    paths: Sequence[Path], max_pixels: int, ahead: int
) -> Iterator[tuple[Path, Tensor | InputError]]:
    """Images in order, the next ones being read by other threads meanwhile; what is wrong with one in its place."""

    def read(path: Path) -> Tensor | InputError:
        try:
            return read_image(path, max_pixels=max_pixels, tell_of_others=True)
        except InputError as error:
            return error

    with ThreadPoolExecutor(max_workers=_AHEAD) as pool:
        waiting: list[tuple[Path, Future[Tensor | InputError]]] = []
        for path in paths:
            waiting.append((path, pool.submit(read, path)))
            if len(waiting) > ahead:
                first, image = waiting.pop(0)
                yield first, image.result()
        for first, image in waiting:
            yield first, image.result()


def _image_ids(paths: Sequence[Path]) -> list[int]:
    """COCO's own ids where all file names are such numbers, else 1, 2, ..."""
    stems = [path.stem for path in paths]
    if all(stem.isascii() and stem.isdigit() and len(stem) < 19 for stem in stems):
        ids = [int(stem) for stem in stems]
        if len(set(ids)) == len(ids):
            return ids
    return [*range(1, len(paths) + 1)]


def _labels(classes: str | None, categories: CategoryMap) -> Tensor | None:
    """The labels of class names with commas; None for all.

    Raises:
        InputError: the detector does not know one, and the closest ones are given; or none is named.
    """
    if classes is None:
        return None
    asked = names_in(classes, categories.names)
    if not asked:
        raise InputError(
            f"--classes: it names no class. The detector knows {', '.join(categories.names[:8])}."
        )
    for name in asked:
        if name not in categories.names:
            close = did_you_mean(name, categories.names)
            raise InputError(f"--classes: the detector knows no class '{name}'.{close}")
    return torch.tensor([label for label, name in enumerate(categories.names) if name in asked])
