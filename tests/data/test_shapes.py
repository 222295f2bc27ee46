import json
import multiprocessing

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from srfgan.models.errors import InputError
from srfgan_cli.data.image_check import check_root
from srfgan_cli.data.open import open_split
from srfgan_cli.data.shapes import ensure_shapes, example_image
from srfgan_cli.data.shapes_scene import draw_scene
from srfgan_cli.presets.config import DataConfig


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "srfgan"


def test_same_images_every_time_and_nothing_is_written_twice(cache, tmp_path, monkeypatch):
    first = ensure_shapes(6, 2, 96)
    assert first.parent == cache
    written = {path: path.stat().st_mtime_ns for path in first.rglob("*") if path.is_file()}
    assert len(written) == 6 + 2 + 2
    assert ensure_shapes(6, 2, 96) == first
    assert {path: path.stat().st_mtime_ns for path in written} == written
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    second = ensure_shapes(6, 2, 96)
    for path in written:
        assert (second / path.relative_to(first)).read_bytes() == path.read_bytes()


def test_it_passes_the_check_and_opens(cache):
    root = ensure_shapes(40, 4, 128)
    assert [report.problems for report in check_root(root)] == [(), ()]
    config = DataConfig(dataset="shapes", shapes_train=40, shapes_val=4, shapes_size=128)
    dataset = open_split(config, None, "train", training=True)
    assert dataset.categories.ids == (1, 2, 4, 7, 8, 13)
    assert set(dataset.index.labels.tolist()) == set(range(6))
    assert len(open_split(config, None, "val", training=False)) == 4
    with pytest.raises(InputError, match="the test split is not in COCO layout"):
        open_split(config, None, "test", training=False)


def test_annotations_agree_with_the_visible_pixels(cache):
    root = ensure_shapes(40, 1, 128)
    content = json.loads((root / "annotations" / "instances_train2017.json").read_text())
    kinds = {type(a["segmentation"]) for a in content["annotations"]}
    assert kinds == {list, dict}
    taken = {}
    for annotation in content["annotations"]:
        outline = annotation["segmentation"]
        if isinstance(outline, list):
            outline = coco_mask.merge(coco_mask.frPyObjects(outline, 128, 128))
        mask = np.asarray(coco_mask.decode(outline)).astype(bool)
        # Small polygons differ from their pixels by part of the border, and at sharp tips.
        assert abs(mask.sum() - annotation["area"]) <= 0.1 * mask.sum() + 8
        assert annotation["area"] >= 20
        ys, xs = np.nonzero(mask)
        x, y, w, h = annotation["bbox"]
        np.testing.assert_allclose(
            [x, y, x + w, y + h], [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=2
        )
        taken.setdefault(annotation["image_id"], []).append(mask)
    overlap = sum(int((np.sum(masks, axis=0) > 1).sum()) for masks in taken.values())
    assert overlap < 0.01 * sum(int(np.sum(masks)) for masks in taken.values())


def test_sizes_reach_from_8_to_200_pixels_and_shapes_cover_each_other():
    extents, covered = [], 0
    for seed in range(60):
        _, instances = draw_scene(np.random.default_rng(seed), 320)
        extents += [float(np.ptp(instance.outline, axis=0).max()) for instance in instances]
        covered += sum(bool(instance.mask.sum() < instance.area) for instance in instances)
    assert 5 < min(extents) < 12
    assert 150 < max(extents) <= 200
    assert covered > 20


def test_two_processes_at_once(cache):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        folders = pool.starmap(ensure_shapes, [(8, 2, 96)] * 2)
    assert folders[0] == folders[1]
    assert [path.name for path in cache.iterdir()] == [folders[0].name]
    assert all(not report.problems for report in check_root(folders[0]))


def test_a_cache_that_cannot_be_written_is_named_and_nothing_is_left(cache, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("srfgan_cli.data.shapes.Path.write_text", full)
    with pytest.raises(InputError) as caught:
        ensure_shapes(2, 1, 96)
    assert str(caught.value).endswith(
        "the built-in data set cannot be written (No space left on device);"
        " free some space, or name another cache folder in XDG_CACHE_HOME"
    )
    assert list(cache.iterdir()) == []


def test_the_example_image_is_always_the_same():
    image = example_image(128)
    assert image.shape == (3, 128, 128)
    assert (image == example_image(128)).all()
    assert image.float().std() > 10
