"""`load_detector` and `predict`: images of every kind, names, original pixels, batches; and what they refuse."""

import json
import threading

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin
from pycocotools import mask as coco_mask
from safetensors.torch import save_file
from small_runs import preset, small_detector
from trained_runs import TEST_SIZE

from srfgan import load_detector
from srfgan.models.errors import InputError
from srfgan_cli.data.images import read_image
from srfgan_cli.data.open import policy
from srfgan_cli.evaluation.encode import to_coco_results
from srfgan_cli.prediction.given import as_pixels
from srfgan_cli.presets.library import dump_yaml


@pytest.fixture(scope="module")
def detector(run):
    return load_detector(run, device="cpu")


def same(first, second):
    return torch.equal(first.boxes, second.boxes) and first.segmentations == second.segmentations


def test_a_run_knows_its_classes_sizes_and_pixels(detector, picture):
    """What comes out is what `eval` would write of the same image."""
    (found,) = detector.predict(picture, score_threshold=0)
    assert 0 < len(found) <= 20 and set(found.names) <= {"cat", "größe", "a/b"}
    config = preset(*TEST_SIZE)
    resized = policy(config.data, training=False).draw((120, 150), torch.Generator()).image(picture)
    assert resized.shape == (3, 96, 120)
    with torch.inference_mode():
        seen = small_detector(*TEST_SIZE).eval().detect([resized])[0]
    expected = to_coco_results(seen, (96, 120), image_id=1, original_size=(120, 150), category_ids=(2, 5, 9))
    told = found.to_dict()
    assert told["size"] == [120, 150] and json.dumps(told)
    for row, result in zip(told["detections"], expected, strict=True):
        x0, y0, x1, y1 = row["box"]
        assert [x0, y0, x1 - x0, y1 - y0] == pytest.approx(result["bbox"], abs=2e-3)
        assert row["score"] == pytest.approx(result["score"]) and row["category_id"] == result["category_id"]
        assert row["segmentation"] == result["segmentation"]


def test_masks_are_those_of_the_segmentations(detector, picture):
    (found,) = detector.predict(picture, score_threshold=0)
    assert found.masks.shape == (len(found), 120, 150) and found.masks.dtype == torch.bool
    areas = [int(coco_mask.area({**code, "counts": code["counts"].encode()})) for code in found.segmentations]
    assert found.masks.sum((1, 2)).tolist() == areas
    best = found.select([0])
    assert len(best) == 1 and same(best, found.select(torch.arange(len(found)) == 0))
    nothing = found.select([])
    assert len(nothing) == 0 and nothing.masks.shape == (0, 120, 150) and nothing.names == []


def test_masks_one_by_one_are_those_of_all(detector, picture):
    found = detector.predict(picture, score_threshold=0)[0]
    each = found.each_mask
    assert len(each) == len(found) > 1
    assert torch.equal(torch.stack([each[row] for row in range(len(each))]), found.masks)


def test_files_and_arrays_of_every_kind_are_one_image(detector, picture, tmp_path):
    pixels = picture.permute(1, 2, 0).numpy()
    file = tmp_path / "a.png"
    Image.fromarray(pixels).save(file)
    alpha = np.dstack([pixels, np.full((120, 150), 7, np.uint8)])
    given = [str(file), file, Image.fromarray(pixels), Image.fromarray(alpha), pixels, alpha, picture]
    given += [picture.float(), pixels.astype(np.float64), pixels[:, ::-1][:, ::-1]]
    (expected,) = detector.predict(picture, score_threshold=0)
    for found in detector.predict(given, score_threshold=0):
        assert same(found, expected)
    grey = detector.predict([pixels[..., 0], pixels[..., :1].repeat(3, axis=2)], score_threshold=0)
    assert same(*grey)
    batch = detector.predict(torch.stack([picture, picture]), score_threshold=0, batch_size=2)
    assert len(batch) == 2 and torch.allclose(batch[1].boxes, expected.boxes, atol=1e-3)


def sixteen_bits(pixels):
    return Image.fromarray(pixels[..., 0].astype(np.uint16) * 200)


def from_zero_white(pixels):
    """As radiographs are stored."""
    image = Image.fromarray(65535 - pixels[..., 0].astype(np.uint16) * 257)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    return image, {"tiffinfo": tags}


@pytest.mark.parametrize(
    ("suffix", "convert"),
    [
        (".png", Image.fromarray),
        (".png", lambda pixels: Image.fromarray(pixels[..., 0])),
        (".png", lambda pixels: Image.fromarray(pixels).convert("P")),
        (".png", lambda pixels: Image.fromarray(pixels).convert("LA")),
        (".jpg", lambda pixels: Image.fromarray(pixels).convert("CMYK")),
        (".jpg", Image.fromarray),
        (".png", sixteen_bits),
        (".tif", sixteen_bits),
        (".tif", lambda pixels: Image.fromarray(pixels[..., 0].astype(np.int32) * 200)),
        (".tif", from_zero_white),
    ],
)
@pytest.mark.parametrize("load", [False, True])
def test_a_pil_image_is_what_its_file_is(suffix, convert, load, picture, tmp_path):
    """Pillow's own conversion makes white of what is beyond 255."""
    file = tmp_path / f"a{suffix}"
    image = convert(picture.permute(1, 2, 0).numpy())
    image, options = image if isinstance(image, tuple) else (image, {})
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(file, **options, **({"exif": exif} if suffix == ".jpg" else {}))
    with Image.open(file) as opened:
        if load:
            opened.load()
        mode = opened.mode
        assert torch.equal(as_pixels(opened, "it"), read_image(file))
        assert torch.equal(as_pixels(opened, "it"), read_image(file)) and opened.mode == mode


@pytest.mark.parametrize("load", [False, True])
@pytest.mark.parametrize("convert", [Image.fromarray, sixteen_bits])
def test_a_tiff_is_turned_once_however_it_comes(load, convert, picture, tmp_path):
    file = tmp_path / "a.tif"
    convert(picture.permute(1, 2, 0).numpy()).save(file, tiffinfo={0x0112: 6})
    # Of a path, Pillow maps an uncompressed file's memory in rows of the turned picture.
    with file.open("rb") as stream, Image.open(stream) as opened:
        if load:
            opened.load()
        for _ in range(2):
            seen = as_pixels(opened, "it")
            assert seen.shape == (3, 150, 120) and torch.equal(seen, read_image(file))


def test_a_pil_image_of_any_exif_data_or_mode_is_read_or_refused(picture, tmp_path):
    file, exif = tmp_path / "a.jpg", Image.Exif()
    exif[0x0112], exif[0x9286], exif[0x010F] = 3, "text", 7
    exif.get_ifd(0x8769)[0x9003] = 5
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(file, exif=exif)
    with Image.open(file) as opened:
        assert torch.equal(as_pixels(opened, "it"), read_image(file))
    wide = Image.fromarray(picture[0].numpy().astype(np.int32))
    for image, message in ((wide, "32-bit integers"), (Image.new("La", (9, 9)), "cannot be read")):
        with pytest.raises(InputError, match=f"it is a PIL image .*{message}"):
            as_pixels(image, "it")
    scaled = Image.fromarray(picture[0].numpy().astype(np.float32) / 255)
    with pytest.raises(InputError, match=r"as if scaled to 0\.\.1"):
        as_pixels(scaled, "it")


def test_batches_change_nothing_but_rounding(detector, picture):
    images = [picture, picture.flip(2), picture.flip(1)]
    alone = [found for image in images for found in detector.predict(image, score_threshold=0)]
    for together, one in zip(detector.predict(images, score_threshold=0, batch_size=3), alone, strict=True):
        assert together.size == one.size and torch.allclose(together.scores, one.scores, atol=1e-4)
    assert detector.predict([], batch_size=2) == []


def test_what_an_image_is_batched_with_changes_nothing_but_rounding(detector, picture):
    """Padded with a wider one, an image's borders would be within it, and give other detections."""
    height = picture.shape[1]
    images = [
        picture,
        torch.cat([picture, picture.flip(2)], dim=2),
        picture[:, : height // 2],
        picture.flip(2),
    ]
    alone = [found for image in images for found in detector.predict(image, score_threshold=0)]
    together = detector.predict(images, score_threshold=0, batch_size=4)
    for found, one in zip(together, alone, strict=True):
        assert found.size == one.size and len(found.scores) == len(one.scores)
        assert torch.allclose(found.scores, one.scores, atol=1e-4)
        assert torch.allclose(found.boxes, one.boxes, atol=1e-2)


def test_the_threshold_may_be_below_the_detectors_own(run, detector, picture):
    strict = load_detector(run, device="cpu", overrides=["model.inference.score_threshold=0.5"])
    (all_,) = detector.predict(picture, score_threshold=0)
    (again,) = strict.predict(picture, score_threshold=0)
    assert same(again, all_)
    limit = float(all_.scores[3:5].mean())
    (above,) = strict.predict(picture, score_threshold=limit)
    assert len(above) == 4 < len(all_)


def test_threads_may_look_below_it_at_the_same_time(run, picture):
    """The second one comes while the first is at it, and would go last."""
    strict = load_detector(run, device="cpu", overrides=["model.inference.score_threshold=0.5"])
    first_is_there, second_is_there = threading.Event(), threading.Event()

    def look(threshold):
        strict.predict(picture, score_threshold=threshold)

    first, second = (threading.Thread(target=look, args=[threshold]) for threshold in (0.3, 0.2))

    def meet(*_):
        if threading.current_thread() is first:
            first_is_there.set()
            second_is_there.wait(0.5)
        else:
            second_is_there.set()
            first.join()

    strict.model.backbone.register_forward_pre_hook(meet)
    first.start()
    first_is_there.wait()
    second.start()
    second.join()
    assert strict.model.head.inference.score_threshold == 0.5


def test_multi_scale_testing(run, detector, picture):
    views = ["evaluation.tta.short_sides=[96]", "evaluation.tta.max_side=160", "evaluation.tta.flip=false"]
    (once,) = load_detector(run, device="cpu", tta=True, overrides=views).predict(picture, score_threshold=0)
    (plain,) = detector.predict(picture, score_threshold=0)
    assert torch.allclose(once.boxes[0], plain.boxes[0], atol=1e-3)


def weights_of(detector):
    return {name: value.contiguous().clone() for name, value in detector.state_dict().items()}


def test_other_projects_files_need_a_preset_and_have_numbers_or_cocos_names(tmp_path, picture):
    file, recipe = tmp_path / "weights.safetensors", tmp_path / "own.yaml"
    save_file(weights_of(small_detector(*TEST_SIZE)), file)
    recipe.write_text(dump_yaml(preset(*TEST_SIZE)))
    with pytest.raises(InputError, match=r"does not say which detector it is of.*--preset"):
        load_detector(file)
    (found,) = load_detector(file, preset=recipe, device="cpu").predict(picture, score_threshold=0)
    assert set(found.names) <= {"class 0", "class 1", "class 2"} and len(found)
    many = ["model.num_classes=80", *TEST_SIZE]
    save_file(weights_of(small_detector(*many)), file)
    of_coco = load_detector(file, preset=recipe, overrides=["model.num_classes=80"], device="cpu")
    assert of_coco.categories.names[79] == "toothbrush" and of_coco.categories.ids[79] == 90


BAD = [
    (np.zeros((4, 4, 2), np.uint8), r"images\[0\] is a numpy array \(4, 4, 2\) of uint8; give a file's path"),
    (np.zeros((4, 4, 3), np.uint16), r"a numpy array of uint16; scale it to uint8"),
    (np.full((4, 4, 3), 0.5), "values up to 0.5, as if scaled to 0..1"),
    (np.full((4, 4, 3), np.nan), "values from nan"),
    (torch.zeros(1, 4, 4), r"a tensor \(1, 4, 4\)"),
    (torch.full((3, 4, 4), 300.0), "values from 300 to 300"),
    (5, r"images\[0\] is .*; give a file's path"),
    (b"\xff\xd8", r"images\[0\] is a bytes; give a file's path"),
    ("nowhere.jpg", "nowhere.jpg: no such image file"),
]


@pytest.mark.parametrize(("image", "message"), BAD)
def test_what_is_no_image_is_refused(detector, image, message):
    with pytest.raises(InputError, match=message):
        detector.predict(image)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"score_threshold": 2}, "0..1, got 2"),
        ({"batch_size": 0}, "got 0"),
        ({"batch_size": 1.5}, "batch_size must be a whole number, got 1.5"),
        ({"tiles": 8}, "got 8"),
        ({"tiles": 640.0}, "tiles must be a whole number, got 640.0"),
        ({"tiles": 64, "overlap": 1.0}, "0..0.9, got 1"),
    ],
)
def test_numbers_out_of_range_are_refused(detector, picture, option, message):
    with pytest.raises(InputError, match=message):
        detector.predict(picture, **option)


def test_what_is_no_detector_is_refused(tmp_path, run):
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "checkpoint.pt").touch()
    with pytest.raises(
        InputError, match=r"holds no model\.pt and no model\.safetensors\. Its run has not ended"
    ):
        load_detector(tmp_path / "begun")
    with pytest.raises(InputError, match="no such weight file"):
        load_detector(tmp_path / "nothing.pt")
    with pytest.raises(InputError, match="loaded from a path, not from"):
        load_detector(5)
    with pytest.raises(InputError, match=r"unknown key 'model.nonsense'"):
        load_detector(run, overrides=["model.nonsense=1"])
    with pytest.raises(InputError, match="overrides is a str; give a list"):
        load_detector(run, overrides="model.inference.nms_iou=0.6")
    with pytest.raises(InputError, match="precision is one of fp32, tf32, bf16, fp16, got 'int8'"):
        load_detector(run, precision="int8")
    for device in ("gpu", "cuda:77"):
        with pytest.raises(InputError, match=f"device '{device}' is not on this machine"):
            load_detector(run, device=device)
    with pytest.raises(
        InputError, match=r"a\.onnx: exported files run on the CPU here: leave device meta out"
    ):
        load_detector("a.onnx", device="meta")


def test_arrays_of_another_byte_order_are_the_same_pixels(detector, picture):
    pixels = picture.permute(1, 2, 0).numpy() if isinstance(picture, torch.Tensor) else np.asarray(picture)
    floats = pixels.astype("<f4"), pixels.astype(">f4")
    little, big = (detector.predict(array, score_threshold=0)[0] for array in floats)
    assert len(little) and torch.equal(little.boxes, big.boxes)


def test_as_supervisions_detections(detector, picture):
    pytest.importorskip("supervision")
    (found,) = detector.predict(picture, score_threshold=0)
    given = found.to_supervision()
    assert given.xyxy.tolist() == found.boxes.tolist() and given.class_id.tolist() == found.labels.tolist()
    assert list(given.data["class_name"]) == found.names and given.mask.shape == (len(found), 120, 150)
