"""Whatever bytes an image file has, it is read as (3, H, W) uint8 or refused by name: no hang, no crash, no flood."""

from __future__ import annotations

import io
import multiprocessing
import os
import random
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from srfgan_cli.data.images import ImageError, decode, image_suffixes, read_image, read_size

INPUTS = 600
SECONDS = 60
"""An input that takes longer hangs; on a busy machine the slowest took well below a second."""
MEGABYTES = 300
"""By how much the process may grow at most."""
MAX_PIXELS = 1_000_000

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16", "I;16B")
FORMATS = (
    "JPEG",
    "PNG",
    "TIFF",
    "WEBP",
    "BMP",
    "GIF",
    "AVIF",
    "JPEG2000",
    "PPM",
    "DIB",
    "PCX",
    "QOI",
    "SGI",
    "TGA",
)
EXTREMES = (0, 1, 2, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1)


def pixels(rng: random.Random, mode: str) -> Image.Image:
    """A small picture of a mode, of smooth parts and noise."""
    size = rng.choice([(1, 1), (31, 17), (40, 64)])
    noise = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (size[1], size[0], 3), np.uint8)
    noise[: size[1] // 2] //= 64
    picture = Image.fromarray(noise)
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.applyTransform(picture, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    if mode in ("I", "I;16", "I;16B"):
        values = noise[:, :, 0].astype(np.int64) * rng.choice([1, 16, 257, 70_000])
        kind = {"I": "<i4", "I;16": "<u2", "I;16B": ">u2"}[mode]
        return Image.frombytes(mode, size, values.astype(kind).tobytes())
    return picture.convert("LA").convert(mode) if mode == "PA" else picture.convert(mode)


def sound(rng: random.Random) -> tuple[bytes, str]:
    """A good file's bytes, and its format; some are animations, compressed in other ways, or have EXIF data."""
    while True:
        name, mode = rng.choice(FORMATS), rng.choice(MODES)
        options: dict[str, object] = {}
        if rng.random() < 0.3 and name in ("GIF", "PNG", "WEBP", "TIFF"):
            options |= {"save_all": True, "append_images": [pixels(rng, mode)]}
        if rng.random() < 0.4 and name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
            options["exif"] = exif(rng)
        if name == "TIFF":
            options["compression"] = rng.choice(
                [None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg", "group4"]
            )
        if name == "JPEG":
            options |= {"progressive": rng.random() < 0.5, "quality": rng.randrange(1, 101)}
        content = io.BytesIO()
        try:
            pixels(rng, mode).save(content, name, **options)
        except Exception:  # a mode that the format has not
            continue
        return content.getvalue(), name


def exif(rng: random.Random) -> bytes:
    """EXIF data: good, with one wrong tag among good ones, or garbage."""
    tags = [
        (rng.choice([0x0112, 0x0112, 0x0100, 0x8769, 0x8825, 0x011A]), rng.randrange(15)) for _ in range(3)
    ]
    entries = b"".join(
        struct.pack(">HHI", tag, kind, rng.choice([0, 1, 2, *EXTREMES]))
        + rng.choice([b"\0\x06\0\0", rng.randbytes(4)])
        for tag, kind in tags
    )
    block = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(tags)) + entries + bytes(4)
    return rng.choice([block, flipped(rng, block), b"Exif\0\0" + rng.randbytes(40)])


def flipped(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 3, 20])):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def truncated(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def spliced(rng: random.Random, content: bytes) -> bytes:
    start, end = sorted(rng.randrange(len(content)) for _ in range(2))
    return (
        content[:start]
        + rng.choice([b"", content[start:end] * 3, rng.randbytes(30), sound(rng)[0]])
        + content[end:]
    )


def absurd(rng: random.Random, content: bytes) -> bytes:
    """Numbers near the beginning, where sizes and counts stand, are extreme."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 2])):
        form = rng.choice(["<H", ">H", "<I", ">I"])
        value = rng.choice(EXTREMES) & (2 ** (8 * struct.calcsize(form)) - 1)
        place = rng.randrange(min(len(changed), 120))
        changed[place : place + struct.calcsize(form)] = struct.pack(form, value)
    return bytes(changed)


def with_sums(rng: random.Random, content: bytes) -> bytes:
    """As `absurd` or `flipped`; a PNG's check sums are put right, so that its decoder gets to see it."""
    changed = rng.choice([absurd, flipped])(rng, content)
    if not content.startswith(b"\x89PNG"):
        return changed
    parts, place = [content[:8]], 8
    while place + 12 <= len(changed):
        (length,) = struct.unpack(">I", content[place : place + 4].ljust(4, b"\0"))
        body = changed[place + 4 : place + 8 + length]
        parts += [struct.pack(">I", length), body, struct.pack(">I", zlib.crc32(body))]
        place += 12 + length
    return b"".join(parts)


def unchanged(rng: random.Random, content: bytes) -> bytes:
    return content


MUTATIONS = (flipped, truncated, spliced, absurd, absurd, with_sums, with_sums, unchanged)


def make(seed: int, folder: Path) -> tuple[Path, tuple[int, int] | None]:
    """The file of a seed, and the size that its json says, if any."""
    rng = random.Random(seed)
    content, name = sound(rng)
    content = rng.choice(MUTATIONS)(rng, content)
    own = next(suffix for suffix, format_ in Image.registered_extensions().items() if format_ == name)
    path = folder / f"{seed}{rng.choice([own, own, own, *sorted(image_suffixes())])}"
    path.write_bytes(content)
    return path, rng.choice([None, None, (17, 31), (31, 17), (-1, 2**40)])


def problem_of(path: Path, size: tuple[int, int] | None) -> str:
    """What is wrong with how the file is read; empty where all is well."""
    outcomes = []
    for read in (
        lambda: tuple(decode(path, size, max_pixels=MAX_PIXELS, count_frames=True).pixels.shape[:2]),
        lambda: tuple(read_image(path, size, max_pixels=MAX_PIXELS).shape[1:]),
        lambda: read_size(path, max_pixels=MAX_PIXELS),
    ):
        try:
            outcomes.append(read())
        except ImageError as error:
            if not str(error).startswith(f"{path}: "):
                return f"the message does not name the file: {error}"
            outcomes.append(error.kind)
    whole, image, header = outcomes
    if whole != image:
        return f"decode and read_image differ: {whole}, {image}"
    if isinstance(image, tuple):
        tensor = read_image(path, size, max_pixels=MAX_PIXELS)
        if tensor.shape[0] != 3 or str(tensor.dtype) != "torch.uint8":
            return f"read as {tuple(tensor.shape)} {tensor.dtype}"
        if size is None and image != header:
            return f"read_size says {header}, but the image is {image}"
    return ""


def worker(connection, folder: str) -> None:
    """Read the files of the seeds that come, in a process of its own, which may crash or hang."""
    while True:
        seed = connection.recv()
        path, size = make(seed, Path(folder))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            problem = problem_of(path, size)
        except BaseException as error:
            problem = f"{type(error).__name__}: {error}"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        path.unlink(missing_ok=True)
        connection.send(problem or (f"{grown:.0f} MB" if grown > MEGABYTES else ""))


@pytest.mark.fuzz
def test_any_bytes_are_an_image_or_are_refused(tmp_path):
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=worker, args=(theirs, str(tmp_path)), daemon=True)
    process.start()
    theirs.close()
    try:
        for seed in range(int(INPUTS * float(os.environ.get("SRFGAN_FUZZ", "1")))):
            ours.send(seed)
            problem = ours.recv() if ours.poll(SECONDS) else "it hangs"
            if problem:
                path, size = make(seed, tmp_path)
                content = path.read_bytes()
                pytest.fail(f"seed {seed}, {path.name}, json size {size}: {problem}\n{content[:400]!r}")
    except EOFError:
        pytest.fail(f"seed {seed} crashed the interpreter; make({seed}, folder) writes its file")
    finally:
        process.kill()
        process.join()
