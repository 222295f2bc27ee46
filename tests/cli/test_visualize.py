"""`srfgan visualize gradcam` and `compare` as a user runs them, and what they say to bad input."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from small_runs import preset
from trained_runs import save_run

from srfgan.models import build_detector
from srfgan_cli.data.shapes import CATEGORY_IDS, ensure_shapes
from srfgan_cli.data.voc_layout import find_voc
from srfgan_cli.training.checkpoint import save_checkpoint
from srfgan_cli.visualization.known_truth import open_truth

SHAPES = [{"id": id_, "name": name} for name, id_ in CATEGORY_IDS.items()]
OTHERS = [{"id": number, "name": f"thing {number}"} for number in range(6)]


def trained(folder, *changes, categories=SHAPES):
    """A run's folder with a detector of random weights in it, which finds something everywhere."""
    size = ("data.test_short_side=64", "data.test_max_side=96")
    config = preset(f"model.num_classes={len(categories)}", *size, *changes)
    torch.manual_seed(len(str(folder)))
    detector = build_detector(config.model)
    with torch.no_grad():
        for name, weight in detector.head.named_parameters():
            if "class" in name and weight.ndim > 1:
                weight.mul_(5)
    place = Path(folder)
    place.mkdir(parents=True)
    save_checkpoint(
        place / "model.pt",
        {
            "stage": "finetune",
            "config": config.model_dump(),
            "model": config.model.model_dump(),
            "categories": categories,
            "modules": {"detector": detector.state_dict()},
        },
    )
    (place / "config.yaml").touch()
    return place / "model.pt"


@pytest.fixture
def shapes():
    return ensure_shapes(2, 3, 64)


@pytest.mark.parametrize("detector", ["cascade_mask_rcnn", "fcos", "sparse_rcnn"])
def test_gradcam_of_one_detector_with_several_methods(srfgan, shapes, detector):
    weights = trained("run", f"model.detector={detector}", "model.neck.upsampler=srf")
    image = shapes / "val2017" / "000002.jpg"
    options = ["visualize", "gradcam", "--weights", weights, "--image", image, "--devices", "cpu"]
    done = srfgan(*options, "--methods", "nn,srf,sapa,afi")
    assert done.code == 0, done.err
    assert done.out.strip() == "gradcam.png" and Image.open("gradcam.png").width > 1500
    said = " ".join(done.err.split())
    assert "run/model.pt has no trained sapa, afi: shown with random weights." in said
    assert "A stage-1 result for afi: --generator FILE." in said, "sapa is no generator"
    before = Path("gradcam.png").read_bytes()
    for name in CATEGORY_IDS:
        again = srfgan(*options, "--methods", "nn", "--class", name, "--output", "one.png")
        assert again.code == 0 or f"No method detects a {name} in" in " ".join(again.err.split())
        if again.code == 0:
            break
    assert Path("one.png").is_file() and Path("gradcam.png").read_bytes() == before


def test_gradcam_of_a_detector_for_each_method_and_of_one_level(srfgan):
    first, second = trained("plain", "model.neck.upsampler=nn"), trained("ours", "model.neck.upsampler=srf")
    both = ["visualize", "gradcam", "--weights", f"{first},{second}", "--methods", "nn,srf"]
    done = srfgan(*both, "--layer", "P2")
    assert done.code == 0 and "random weights" not in done.err, done.err
    other = srfgan("visualize", "gradcam", "--weights", f"{first},{second}", "--methods", "srf,nn")
    assert other.code == 2 and "plain/model.pt upsamples by nn, not by srf" in other.err
    refused = srfgan(*both, "--layer", "P6")
    assert refused.code == 2
    said = " ".join(refused.err.split())
    assert "--layer P6: the detection does not rest on that level, but on P2; name that, or leave" in said


def test_compare_with_and_without_the_truth(srfgan, shapes):
    first, second = trained("plain"), trained("ours", "model.detector=retinanet")
    pair = ["visualize", "compare", "--weights", f"{first},{second}", "--score-threshold", 0]
    image = shapes / "val2017" / "000002.jpg"
    done = srfgan(*pair, "--image", image, "--data-root", shapes)
    assert done.code == 0 and done.out.strip() == "compare/000002.png", done.err
    with_truth = Image.open("compare/000002.png")
    assert srfgan(*pair, "--image", image, "--output", "two.png").code == 0
    without = Image.open("two.png")
    assert with_truth.height == without.height and with_truth.width > 1.4 * without.width
    assert srfgan(*pair).out.strip() == "compare/example.png"

    # A folder: a picture for each image; one that the data set does not list has no truth.
    own = Path("own")
    shutil.copytree(shapes, own)
    shutil.copy(image, own / "val2017" / "new.jpg")
    (own / "val2017" / "broken.jpg").write_bytes(image.read_bytes()[:500])
    done = srfgan(*pair, "--image", own / "val2017", "--data-root", own, "--output", "all")
    assert done.code == 2 and "broken.jpg" in done.err and "1 of 5 images cannot be read" in done.err
    assert {path.name for path in Path("all").iterdir()} == {
        "000002.png", "000012.png", "000022.png", "new.png"
    }  # fmt: skip
    assert "so without truth: 2 (broken.jpg, new.jpg)" in " ".join(done.err.split())
    widths = {path.stem: Image.open(path).width for path in Path("all").iterdir()}
    assert widths["new"] == without.width and widths["000002"] == with_truth.width


BAD = [
    (
        "gradcam --class rectangel",
        "run/model.pt has no class 'rectangel'. Did you mean 'rectangle'? It knows circle, ",
    ),
    ("gradcam --class nothing", "run/model.pt has no class 'nothing'. It knows circle, rectangle"),
    ("gradcam --layer P9", "no pyramid level 'p9' in this detector; choose from p2, p3, p4, p5, p6"),
    ("gradcam --layer high", "no pyramid level 'high' in this detector"),
    ("gradcam --methods nn,cubic", "unknown method 'cubic'"),
    ("gradcam --methods nn,nn", "names a method twice"),
    ("gradcam --image none.jpg", "--image none.jpg does not exist"),
    ("gradcam --image broken.jpg", "broken.jpg: not an image"),
    ("gradcam --image folder", "one image makes one panel; name a file"),
    ("gradcam --output a.txt", "--output a.txt: end it in .png or .jpg"),
    ("gradcam --data-root .", "--data-root is an option of visualize compare, not of visualize gradcam"),
    ("p2 --score-threshold 0.9", "is an option of visualize detections and compare, not of visualize P2"),
    (
        "detections --methods srf",
        "--methods is an option of visualize P2 to P7 and gradcam, not of visualize",
    ),
    ("compare --generator run/model.pt", "--generator is an option of visualize P2 to P7 and gradcam"),
    (
        "gradcam --weights PAIR --methods nn,srf --generator run/model.pt",
        "--generator would not be used: each method has weights of its own",
    ),
    ("gradcam --weights run/model.pt,run/model.pt", "names 2 files and --methods 3 methods"),
    (
        "gradcam --set model.inference.score_threshold=0.9999",
        "No method detects anything in the built-in image",
    ),
    ("compare", "name two detectors, --weights FILE,FILE"),
    ("compare --weights run/model.pt,run/model.pt,run/model.pt", "name two detectors"),
    ("compare --weights run/model.pt,none.pt", "The weights none.pt do not exist"),
    ("compare --weights run/model.pt,other/model.pt", "know different classes (6: circle"),
    ("compare --weights run/model.pt,few/model.pt", "know different classes (6: circle"),
    ("compare --layer P2", "--layer is an option of visualize gradcam, not of visualize compare"),
    ("compare --weights PAIR --image empty", "the folder holds no image"),
    ("compare --weights PAIR --image broken.jpg", "broken.jpg: not an image"),
    ("compare --weights PAIR --image folder --output a.png", "several images make several pictures"),
    ("compare --weights PAIR --data-root SHAPES", "name an image of it, or a folder of them, with --image"),
    ("compare --weights PAIR --data-root none --image IMAGE", "none: no such folder"),
    ("compare --weights PAIR --data-root empty --image IMAGE", "is not in COCO layout"),
    (
        "compare --weights PAIR --data-root SHAPES --image folder",
        "is no annotated image of the data set's folders (train2017/",
    ),
    ("compare --weights PAIR --data-root SHAPES --image broken.jpg", "broken.jpg is no annotated image"),
    (
        "compare --weights other/model.pt,other/model.pt --data-root SHAPES --image IMAGE",
        "trained on other categories",
    ),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three detectors, and folders and files of images, for all cases of bad input."""
    folder = tmp_path_factory.mktemp("bad")
    trained(folder / "run")
    trained(folder / "other", categories=OTHERS)
    trained(folder / "few", categories=SHAPES[:2])
    (folder / "empty").mkdir()
    (folder / "folder").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 48), "grey").save(folder / "folder" / name)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    return folder


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_ends_with_one_message_and_exit_code_2(options, message, srfgan, runs, shapes, monkeypatch):
    monkeypatch.chdir(runs)
    values = {
        "PAIR": "run/model.pt,run/model.pt",
        "SHAPES": shapes,
        "IMAGE": shapes / "val2017" / "000002.jpg",
    }
    given = [values.get(option, option) for option in options.split()]
    weights = [] if given[0] == "compare" or "--weights" in given else ["--weights", "run/model.pt"]
    outcome = srfgan("visualize", *given, *weights, "--devices", "cpu")
    said = " ".join(outcome.err.split())
    assert outcome.code == 2 and not outcome.out, said
    assert message in said and "Traceback" not in said
    assert said.count("Error") <= 1
    assert not list(runs.glob("*.png")) and not (runs / "compare").exists()


def test_images_without_annotations_have_no_truth(srfgan, shapes):
    """COCO's test images."""
    pair = trained("run")
    own = Path("own")
    (own / "annotations").mkdir(parents=True)
    shutil.copytree(shapes / "val2017", own / "test2017")
    listed = json.loads((shapes / "annotations" / "instances_val2017.json").read_text())
    del listed["annotations"]
    (own / "annotations" / "image_info_test2017.json").write_text(json.dumps(listed))
    options = [
        "visualize",
        "compare",
        "--weights",
        f"{pair},{pair}",
        "--image",
        own / "test2017" / "000002.jpg",
    ]
    refused = srfgan(*options, "--data-root", own)
    assert refused.code == 2 and "is no annotated image of the data set's folders (test2017/)" in " ".join(
        refused.err.split()
    )


def test_the_truth_is_that_of_all_splits_that_share_a_folder(tmp_path, capsys):
    """Official Pascal VOC: one folder of images, and a list of those of each split."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / "voc" / folder).mkdir(parents=True)
    images = []
    for side, name in enumerate("abcd", 20):
        images.append(tmp_path / "voc" / "JPEGImages" / f"{name}.png")
        Image.new("RGB", (64, side)).save(images[-1])
        box = f"<xmin>1</xmin><ymin>1</ymin><xmax>{side}</xmax><ymax>9</ymax>"
        (tmp_path / "voc" / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.png</filename>"
            f"<size><width>64</width><height>{side}</height><depth>3</depth></size>"
            f"<object><name>cat</name><bndbox>{box}</bndbox></object></annotation>"
        )
    for split, listed in (("train", "b\n"), ("val", "a\nd\n")):
        (tmp_path / "voc" / "ImageSets" / "Main" / f"{split}.txt").write_text(listed)
    known = open_truth(find_voc(tmp_path / "voc"), images)
    assert [known.size(image) for image in images] == [(20, 64), (21, 64), None, (23, 64)]
    ends = [known.truth(images[place], masks=False).objects.boxes[0, 2].item() for place in (0, 1, 3)]
    assert ends == [20, 21, 23]
    told = " ".join(capsys.readouterr().err.split())
    assert "Main/train.txt or " in told and "Main/val.txt, so without truth: 1 (c.png)" in told


@pytest.mark.parametrize("what", ["gradcam", "P2"])
def test_a_detector_that_upsamples_nothing_has_no_methods_to_compare(srfgan, tmp_path, what):
    folder = save_run(tmp_path / "run", "model.detector=tridentnet")
    done = srfgan("visualize", what, "--weights", folder / "model.pt", "--methods", "nn,bilinear")
    assert done.code == 2 and "tridentnet has no pyramid" in done.err and "Traceback" not in done.err
