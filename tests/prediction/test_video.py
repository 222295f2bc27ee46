"""Videos: every frame in the results, an annotated copy, and what breaks off is named."""

import json

import pytest
from trained_runs import NAMES

av = pytest.importorskip("av")
FRAMES = 12


@pytest.fixture
def video(tmp_path, picture):
    """A scene that moves to the left."""
    from srfgan_cli.prediction.video import writer

    path = tmp_path / "scene.mp4"
    with writer(path, 10) as made:
        for shift in range(FRAMES):
            made.write(picture.roll(-8 * shift, dims=2))
    return path


def test_a_video_becomes_an_annotated_one(srfgan, run, video, tmp_path):
    done = srfgan("predict", video, "--weights", run, "--score-threshold", "0", "--batch-size", "4", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["images"], told["videos"]) == (FRAMES, 1) and set(told["classes"]) <= set(NAMES.names)
    info = json.loads((tmp_path / "predictions" / "image_info.json").read_text())["images"]
    assert [image["file_name"] for image in info] == [f"{video}#{frame}" for frame in range(FRAMES)]
    with av.open(str(tmp_path / "predictions" / "pictures" / "scene.mp4")) as annotated:
        stream = annotated.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in annotated.decode(video=0)]
        assert len(frames) == FRAMES and stream.average_rate == 10
    assert frames[0].shape[1] == 150 and frames[0].shape[0] > 120  # the caption is below


def test_a_video_that_breaks_off_is_named_and_its_frames_are_kept(srfgan, run, video, tmp_path):
    content = video.read_bytes()
    video.write_bytes(content[: len(content) * 9 // 10])
    (tmp_path / "none.mp4").write_text("no video")
    chosen = ("--weights", run, "--score-threshold", "0")
    done = srfgan("predict", video, tmp_path / "none.mp4", *chosen, "--save", "csv")
    assert done.code == 2 and "2 of 2 files cannot be read" in done.err and "Traceback" not in done.err
    assert "none.mp4: not a video that can be read" in done.err
    assert "scene.mp4: the video breaks off after" in done.err
    rows = (tmp_path / "predictions" / "predictions.csv").read_text(encoding="utf-8").splitlines()
    assert any(row.startswith(f"{video}#0,") for row in rows)
