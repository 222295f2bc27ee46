"""Annotations that are kept are those that are read."""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy
from filelock import FileLock

from srfgan.models.errors import InputError
from srfgan_cli.data import coco, index_cache, layout, records
from srfgan_cli.data.open_index import open_index
from srfgan_cli.presets.config import DataConfig


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(index_cache, "SMALLEST", 0)
    return tmp_path / "cache" / "srfgan" / "annotations"


@pytest.fixture
def odd(tiny, make_box):
    """The tiny set with masks of each kind, and some of what a check lists."""
    runs = {"size": [20, 30], "counts": [63, 5, 532]}
    tiny.content["categories"][0]["name"] = "zwölf"
    tiny.content["annotations"] += [
        make_box(901, 1, 3, bbox=[0, 0, 0, 5]),
        make_box(902, 1, 90, iscrowd=1, segmentation=runs),
        make_box(903, 1, 3, bbox=[2.5, 3, 100, 5], area=-1),
        make_box(904, 77, 3),
    ]
    tiny.write()
    return tiny


def opened(tiny, **options):
    return open_index(DataConfig(), tiny.root, "train", **options)[0]


def files(cache):
    return sorted(cache.glob("*.safetensors"))


def assert_same(index, expected):
    for name, value in vars(expected).items():
        found = getattr(index, name)
        if isinstance(value, np.ndarray):
            assert found.dtype == value.dtype and np.array_equal(found, value) and found.flags.writeable, name
        else:
            assert type(found) is type(value) and found == value, name


@pytest.mark.parametrize("count_unusable", [False, True])
def test_the_second_time_gives_the_same_without_reading(odd, cache, monkeypatch, count_unusable):
    expected = coco.CocoIndex.load(odd.json, odd.images, count_unusable=count_unusable)
    assert expected.report.problems and len(expected.runs) and len(expected.vertices)
    assert_same(opened(odd, count_unusable=count_unusable), expected)
    monkeypatch.setattr(records, "read_records", lambda path: pytest.fail("read again"))
    assert_same(opened(odd, count_unusable=count_unusable), expected)
    assert opened(odd, count_unusable=count_unusable).file_names() == [
        expected.file_name(row) for row in range(len(expected))
    ]
    with pytest.raises(pytest.fail.Exception, match="read again"):
        opened(odd, count_unusable=not count_unusable)


def test_a_moved_json_is_known_by_its_content(odd, cache, monkeypatch):
    opened(odd)
    shutil.copytree(odd.root, odd.root.with_name("other"))
    monkeypatch.setattr(layout, "_read_json", lambda path: pytest.fail("read again"))
    index, images = open_index(DataConfig(), odd.root.with_name("other"), "train")
    assert index.path == index.report.path == odd.root.with_name("other") / odd.json.relative_to(odd.root)
    assert images.parent == odd.root.with_name("other")


def test_a_changed_json_is_read_anew(odd, cache):
    before = opened(odd)
    odd.content["annotations"][0]["bbox"][0] += 1
    odd.write()
    assert_same(opened(odd), coco.CocoIndex.load(odd.json, odd.images))
    assert not np.array_equal(opened(odd).truth_boxes, before.truth_boxes)


def test_other_code_reads_anew(odd, cache, monkeypatch, tmp_path):
    opened(odd)
    monkeypatch.setattr(index_cache, "__file__", str(tmp_path / "index_cache.py"))
    (tmp_path / "index_cache.py").write_text("other")
    opened(odd)
    assert len(files(cache)) == 2


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_a_broken_or_foreign_file_is_written_anew(odd, cache):
    expected = opened(odd)
    (kept,) = files(cache)
    content = kept.read_bytes()
    tensors = safetensors.numpy.load(content)
    foreign = safetensors.numpy.save(tensors)  # sound, but without what is no tensor
    spoilt = [b"", b"{}", content[:-1], content[: len(content) // 2], content + b"0", foreign]
    step = max(1, len(content) // 300)
    for other in [*spoilt, *(flipped(content, place) for place in range(0, len(content), step))]:
        kept.write_bytes(other)
        assert_same(opened(odd), expected)
        assert_same(index_cache.load_kept(kept, odd.json), expected)


def test_missing_images_are_missed_the_second_time_too(odd, cache):
    opened(odd)
    (odd.images / odd.content["images"][0]["file_name"]).unlink()
    with pytest.raises(InputError) as caught:
        opened(odd)
    with pytest.raises(InputError) as expected:
        coco.CocoIndex.load(odd.json, odd.images, check=str(odd.root))
    assert str(caught.value) == str(expected.value)


def test_unusable_data_is_not_kept(odd, cache):
    odd.content["annotations"][0]["category_id"] = 55
    odd.write()
    for _ in range(2):
        with pytest.raises(InputError, match="unknown category id"):
            opened(odd)
    assert not files(cache)


def test_small_jsons_are_not_kept(odd, cache, monkeypatch):
    monkeypatch.setattr(index_cache, "SMALLEST", odd.json.stat().st_size + 1)
    opened(odd)
    assert not cache.exists()


def test_what_was_not_used_for_longest_makes_room(odd, cache, monkeypatch):
    def written(number):
        odd.content["annotations"][0]["area"] = number
        odd.json.write_text(json.dumps(odd.content))
        before = set(files(cache))
        opened(odd)
        return set(files(cache)) - before

    (first,), (second,) = written(1), written(2)
    assert written(1) == set()  # used again
    monkeypatch.setattr(index_cache, "LARGEST", int(2.5 * first.stat().st_size))
    (third,) = written(3)
    assert set(files(cache)) == {first, third} and second != first


def test_nothing_is_kept_where_there_is_no_place_or_another_process_is_saving(odd, cache):
    expected = opened(odd)
    shutil.rmtree(cache)
    cache.mkdir()
    with FileLock(cache / ".lock"):
        assert_same(opened(odd), expected)
    assert not files(cache)
    shutil.rmtree(cache)
    cache.write_text("a file")
    assert_same(opened(odd), expected)
    assert json.loads(odd.json.read_text()) == odd.content
