"""Videos: every frame in the results, an annotated copy, and what breaks off is named."""

import csv
import json
import re
import struct
from fractions import Fraction

import numpy as np
import pytest
import torch
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


def test_each_box_of_each_frame_is_cut_out(srfgan, run, video, tmp_path):
    chosen = ("--weights", run, "--score-threshold", "0", "--save", "csv,crops")
    done = srfgan("predict", video, *chosen)
    assert done.code == 0, done.err
    with (tmp_path / "predictions" / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    crops = [path.stem.split("-")[:2] for path in (tmp_path / "predictions" / "crops").rglob("*.jpg")]
    frames = [f"{video}#{frame}" for stem, frame in crops if stem == "scene"]
    assert len(rows) > FRAMES and sorted(frames) == sorted(row["file"] for row in rows)


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


def test_a_video_that_breaks_off_gives_all_frames_before_that(srfgan, run, video, tmp_path):
    """Whatever the batches: those of the last one, which was not full, had been left out, but counted as read."""
    content = video.read_bytes()
    video.write_bytes(content[: len(content) * 9 // 10])
    chosen = ("--weights", run, "--batch-size", FRAMES, "--json")
    done = srfgan("predict", video, *chosen)
    assert done.code == 2, done.err
    read = int(re.search(r"the video breaks off after (\d+)", done.err)[1])
    assert 0 < read < FRAMES and json.loads(done.out)["images"] == read
    info = json.loads((tmp_path / "predictions" / "image_info.json").read_text())["images"]
    assert [image["file_name"] for image in info] == [f"{video}#{frame}" for frame in range(read)]
    with av.open(str(tmp_path / "predictions" / "pictures" / "scene.mp4")) as annotated:
        assert len([*annotated.decode(video=0)]) == read


@pytest.mark.parametrize(
    ("start", "end", "key_every"),
    [(0.5, FRAMES / 10, FRAMES), (0, 0.4, 4), (0.6, FRAMES / 10, 4), (0.6, 0.9, 4)],
)
def test_a_clip_that_was_cut_without_encoding_it_anew_is_whole(
    start, end, key_every, srfgan, run, picture, tmp_path
):
    """It holds more frames than its edit list shows: of those before, a reader is given those from a key frame on."""
    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as made:
        stream = made.add_stream("libx264", rate=10, options={"g": str(key_every)})
        stream.height, stream.width, stream.pix_fmt = *picture.shape[1:], "yuv420p"
        for shift in range(FRAMES):
            pixels = np.ascontiguousarray(picture.roll(-8 * shift, dims=2).permute(1, 2, 0).numpy())
            made.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        made.mux(stream.encode())
        ticks = int(1 / stream.time_base)
    content = bytearray(clip.read_bytes())
    edit = content.index(b"elst") + len("elst") + 8  # after its flags and the number of its edits
    shown, first = struct.unpack_from(">Ii", content, edit)
    assert shown == FRAMES * 100  # milliseconds; `first` is in the stream's ticks
    struct.pack_into(">Ii", content, edit, round(1000 * (end - start)), first + round(start * ticks))
    clip.write_bytes(content)
    with av.open(str(clip)) as stored:
        assert stored.streams.video[0].frames == FRAMES
    done = srfgan("predict", clip, "--weights", run, "--save", "results", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["images"], told["unreadable"]) == (round(10 * (end - start)), [])


EVEN = [number / 10 for number in range(FRAMES)]
UNEVEN = [0, 0.05, 0.1, 0.5, 0.55, 1.5, 1.52, 1.54, 4.0]


def clip(path, codec, sound_codec, times, sound):
    """Noise, other from frame to frame, which are shown at some seconds; `sound` lasts that many."""
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as made:
        stream = made.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 10 if times is EVEN else 1000)
        packets = []
        for time in times:
            pixels = noise.integers(0, 256, (96, 128, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(time / frame.time_base)
            packets += stream.encode(frame)
        packets += stream.encode()
        if sound:
            audio = made.add_stream(sound_codec, rate=48000)
            audio.layout = "stereo"
            for start in range(0, round(48000 * sound), 960):
                quiet = np.zeros((2, 960), np.float32)
                frame = av.AudioFrame.from_ndarray(quiet, format="fltp", layout="stereo")
                frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
                packets += audio.encode(frame)
            packets += audio.encode()
        for packet in sorted(packets, key=lambda packet: (packet.dts or 0) * packet.time_base):
            made.mux(packet)


@pytest.mark.parametrize("sound", [0, 0.3, 6.0])
@pytest.mark.parametrize("times", [EVEN, UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize(
    ("suffix", "codec", "sound_codec"), [("mkv", "mpeg4", "aac"), ("webm", "libvpx", "libopus")]
)
def test_a_file_that_counts_no_frames_is_whole_where_any_stream_ends_when_it_says(
    suffix, codec, sound_codec, times, sound, tmp_path
):
    from srfgan_cli.prediction.video import Video, VideoError

    path = tmp_path / f"film.{suffix}"
    clip(path, codec, sound_codec, times, sound)
    whole = Video(path)
    assert whole.frames == 0 and len(list(whole)) == len(times)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(VideoError, match=r"the video breaks off after \d+ frames, \d\.\d of \d\.\d seconds"):
        list(Video(path))
    path.write_bytes(content[: content.index(b"\x1f\x43\xb6\x75") + 40])  # where its first packets begin
    with pytest.raises(VideoError, match="the video breaks off before its first frame"):
        list(Video(path))


def in_quarters(content, turns):
    """An MP4's bytes whose display matrix has its pictures turned by quarters with the clock, as telephones write."""
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][turns]
    unit = 0x10000
    matrix = struct.pack(">9i", cos * unit, sin * unit, 0, -sin * unit, cos * unit, 0, 0, 0, 0x40000000)
    at = content.index(b"tkhd") + 44
    return content[:at] + matrix + content[at + len(matrix) :]


@pytest.mark.parametrize("turns", range(4))
def test_frames_are_turned_as_players_show_them(turns, tmp_path):
    from srfgan_cli.prediction.video import Video, writer

    picture = torch.zeros(3, 64, 96, dtype=torch.uint8)
    picture[0, :32, :48] = 255
    path = tmp_path / "film.mp4"
    with writer(path, 10) as made:
        made.write(picture)
    path.write_bytes(in_quarters(path.read_bytes(), turns))
    (frame,) = Video(path)
    shown = np.rot90(picture.permute(1, 2, 0).numpy(), -turns)
    difference = np.abs(frame.permute(1, 2, 0).numpy().astype(int) - shown).mean()
    assert tuple(frame.shape[1:]) == shown.shape[:2] and difference < 5


@pytest.mark.parametrize("size", [(1, 1), (1, 33), (47, 1), (3, 5)])
@pytest.mark.parametrize("rate", [Fraction(1, 100), 10])
def test_the_smallest_pictures_can_be_written_at_any_pace(size, rate, tmp_path):
    from srfgan_cli.prediction.video import Video, writer

    path = tmp_path / "small.mp4"
    with writer(path, rate) as made:
        made.write(torch.full((3, *size), 200, dtype=torch.uint8))
    (frame,) = Video(path)
    assert tuple(frame.shape[1:]) == tuple(max(2, side - side % 2) for side in size)
    assert (frame.float() - 200).abs().mean() < 10


@pytest.mark.parametrize("size", [(64, 32), (160, 240), (30, 90), (81, 121), (1, 400)])
def test_frames_of_another_size_keep_their_shape(size, tmp_path):
    """As in a broadcast whose format changes midway: the first frame's size is the file's."""
    from srfgan_cli.prediction.video import Video, writer

    first, path = (80, 120), tmp_path / "changing.mp4"
    with writer(path, 10) as made:
        made.write(torch.full((3, *first), 200, dtype=torch.uint8))
        made.write(torch.full((3, *size), 200, dtype=torch.uint8))
        made.write(torch.full((3, *first), 200, dtype=torch.uint8))
    frames = [frame.float().mean(dim=0) for frame in Video(path)]
    assert [tuple(frame.shape) for frame in frames] == [first] * 3
    assert all((frame - 200).abs().mean() < 10 for frame in (frames[0], frames[2]))
    factor = min(80 / size[0], 120 / size[1])
    lit = frames[1] > 100
    for axis, side in enumerate(size):
        seen = lit.any(dim=1 - axis).nonzero().flatten()
        wanted = max(1, round(side * factor))
        middle = float(seen[0] + seen[-1]) / 2
        assert abs(len(seen) - wanted) <= 2 and abs(middle - (first[axis] - 1) / 2) <= 1.5


def test_a_video_has_its_name_when_it_is_whole(tmp_path, picture):
    from srfgan.models.errors import InputError
    from srfgan_cli.prediction.video import writer

    with writer(tmp_path / "none.mp4", 10):
        pass
    with writer(tmp_path / "some.mp4", 10) as made:
        made.write(picture)
        assert all(path.name.endswith(".part") for path in tmp_path.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["some.mp4"]
    with (
        pytest.raises(InputError, match=r"Cannot write .*broken.mp4"),
        writer(tmp_path / "broken.mp4", 10) as made,
    ):
        made.write(picture)
        made.write(picture[:2])  # what the encoder refuses, as it would a full disk
    with (
        pytest.raises(InputError, match=r"Cannot write .*some.mp4/a.mp4"),
        writer(tmp_path / "some.mp4/a.mp4", 10) as made,
    ):
        made.write(picture)
    assert [path.name for path in tmp_path.iterdir()] == ["some.mp4"]
