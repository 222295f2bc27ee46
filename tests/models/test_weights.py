"""Weight files: what is read, what is reported, and what is refused."""

import io
import os
import pickle
import pickletools
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from detector_configs import model_config

from srfgan.models import build_detector, build_discriminator, build_generator
from srfgan.models.config import (
    BackboneConfig,
    BoxHeadConfig,
    DiscriminatorConfig,
    MaskHeadConfig,
    NeckConfig,
)
from srfgan.models.errors import InputError
from srfgan.models.weights import load_imagenet, load_weights, read_checkpoint
from srfgan.models.weights.names import to_detectron2, to_ours


def tiny(upsampler="nn", num_classes=3, backbone="r18"):
    config = model_config(
        num_classes=num_classes,
        backbone=BackboneConfig(name=backbone),
        neck=NeckConfig(channels=16, upsampler=upsampler),
        box_head=BoxHeadConfig(fc_dim=16),
        mask_head=MaskHeadConfig(channels=8, num_convs=1),
    )
    return build_detector(config)


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.values(), second.values(), strict=True))


def as_detectron2(model):
    return {to_detectron2(name): value.numpy() for name, value in model.state_dict().items()}


def save(content, path):
    """Write `content` in the format that the file's ending names."""
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    elif path.suffix == ".safetensors":
        safetensors.torch.save_file(
            {k: torch.from_numpy(v).contiguous() for k, v in content["model"].items()}, path
        )
    else:
        torch.save({"model": {k: torch.from_numpy(v) for k, v in content["model"].items()}}, path)
    return path


@pytest.mark.parametrize("ending", ["pkl", "pth", "safetensors"])
def test_formats(tmp_path, ending):
    source, model = tiny(), tiny()
    path = save({"model": as_detectron2(source), "__author__": "me"}, tmp_path / f"weights.{ending}")
    report = load_weights(model, path)
    assert report.complete and report.loaded == len(source.state_dict())
    assert equal(model.state_dict(), source.state_dict())


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_pickle_protocol(tmp_path, protocol):
    path = tmp_path / "weights.pkl"
    content = {"model": as_detectron2(tiny()), "matching_heuristics": True, "n": np.float32(3)}
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    assert load_weights(tiny(), path).complete


@pytest.mark.parametrize("zipped", [True, False])
def test_a_training_programs_checkpoint(tmp_path, zipped):
    """What detectron2's trainer writes beside the model is passed over, numpy numbers of any age included."""
    source, model = tiny("afi"), tiny("afi")
    optimizer = torch.optim.SGD(source.parameters(), 0.1, momentum=0.9)
    rest = {
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5]).state_dict(),
        "iteration": 269_999,
        "best": np.float64(42.6),
        "scores": np.arange(3.0),
    }
    weights = {name: torch.from_numpy(value) for name, value in as_detectron2(source).items()}
    weights["backbone.srf_module.Discriminators.0.0.0.weight"] = torch.zeros(8, 16, 3, 3)
    content, path = pickled({"model": weights, **rest}, zipped=zipped), tmp_path / "model_final.pth"
    if not zipped:
        content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")  # as of numpy 1
    path.write_bytes(content)
    report = load_weights(model, path)
    assert equal(model.state_dict(), source.state_dict())
    assert report.missing == report.mismatched == []
    assert report.unexpected == ["backbone.srf_module.Discriminators.0.0.0.weight"]


def test_own_checkpoint(tmp_path):
    source, generator = tiny("srf"), build_generator("srf", 16)
    modules = {"detector": source.state_dict(), "generator": generator.state_dict()}
    path = tmp_path / "last.pt"
    content = {"format": "srfgan", "modules": modules, "stage": "finetune", "categories": [{"id": 7}]}
    torch.save(content, path)
    model, taken = tiny("srf"), build_generator("srf", 16)
    assert load_weights(model, path, strict=True).complete
    assert equal(model.state_dict(), source.state_dict())
    load_weights(taken, path, strict=True)
    assert equal(taken.state_dict(), generator.state_dict()), "the lone generator, not the neck's"
    checkpoint = read_checkpoint(path)
    assert (checkpoint.stage, checkpoint.categories) == ("finetune", [{"id": 7}])
    assert checkpoint.model_config() is None


def test_generator_moves_between_necks_and_files_of_its_own(tmp_path):
    source = tiny("afi")
    path = save({"model": as_detectron2(source)}, tmp_path / "detector.pth")
    generator = build_generator("afi", 16)
    assert load_weights(generator, path, strict=True).complete
    assert equal(generator.state_dict(), source.neck.upsample.state_dict())
    alone = tmp_path / "generator.pt"
    torch.save({"format": "srfgan", "modules": {"generator": generator.state_dict()}}, alone)
    model = tiny("afi")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert load_weights(model, alone, parts=("neck.upsample",), strict=True).complete
    for name, value in model.state_dict().items():
        wanted = source.state_dict() if name.startswith("neck.upsample.") else before
        assert torch.equal(value, wanted[name]), name
    with pytest.raises(InputError, match="does not fit this Discriminator"):
        load_weights(build_discriminator(DiscriminatorConfig(widths=[8]), 16), alone)


def test_imagenet_weights_of_timm(tmp_path):
    source = timm.create_model("resnet18")
    path = tmp_path / "resnet18.tv_in1k.safetensors"
    safetensors.torch.save_file(source.state_dict(), path)
    model = tiny()
    assert load_weights(model, path, parts=("backbone",), strict=True).complete
    state = source.state_dict()
    ours = model.backbone.body.state_dict()
    assert torch.equal(ours["layer3.0.downsample.0.norm.weight"], state["layer3.0.downsample.1.weight"])
    assert torch.equal(ours["layer2.1.conv2.weight"], state["layer2.1.conv2.weight"])
    assert load_weights(tiny(), path, parts=("backbone", "head")).missing != []


def test_imagenet_weights_from_a_file_put_there(tmp_path):
    source, model = timm.create_model("resnet18").state_dict(), tiny()
    file = tmp_path / "resnet18.tv_in1k.safetensors"
    safetensors.torch.save_file(source, file)
    assert load_imagenet(model, tmp_path).missing == []
    assert torch.equal(model.backbone.body["layer4"][1].conv2.weight, source["layer4.1.conv2.weight"])
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(
        InputError, match=r"resnet18\.tv_in1k\.safetensors does not hold timm's weights of resnet18"
    ):
        load_imagenet(model, tmp_path)


def test_imagenet_weights_that_cannot_be_had(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError) as error:
        model = SimpleNamespace(config=model_config(backbone=BackboneConfig(name="swin_t")))
        load_imagenet(model, tmp_path)
    name = "swin_tiny_patch4_window7_224"
    assert str(error.value) == (
        f"the ImageNet weights of {name} cannot be downloaded (no network). Put "
        f"https://huggingface.co/timm/{name}.ms_in1k/resolve/main/model.safetensors to "
        f"{tmp_path / name}.safetensors, or use initial_weights=none"
    )
    model = SimpleNamespace(config=model_config(backbone=BackboneConfig(name="v99")))
    with pytest.raises(InputError, match="there are no ImageNet weights of the backbone v99"):
        load_imagenet(model, tmp_path)


def test_msra_weights(tmp_path):
    """detectron2's ImageNet start: Caffe2's names, norms as scale and shift only, written by Python 2."""
    arrays = {
        "conv1_w": "stem.conv1.weight",
        "res_conv1_bn_s": "stem.conv1.norm.weight",
        "res_conv1_bn_b": "stem.conv1.norm.bias",
        "res2_0_branch1_w": "res2.0.shortcut.weight",
        "res2_0_branch1_bn_s": "res2.0.shortcut.norm.weight",
        "res5_2_branch2c_bn_b": "res5.2.conv3.norm.bias",
        "res4_5_branch2b_w": "res4.5.conv2.weight",
    }
    for theirs, detectron2 in arrays.items():
        assert to_detectron2(to_ours(theirs)) == f"backbone.bottom_up.{detectron2}"
    path = tmp_path / "R-50.pkl"
    content = {"blobs": {"conv1_w": np.ones((64, 3, 7, 7)), "res_conv1_bn_s": np.full(64, 2.0)}}
    path.write_bytes(pickle.dumps(content, protocol=2))
    tensors = read_checkpoint(path).tensors
    assert tensors["backbone.body.conv1.norm.running_var"].tolist() == [1.0] * 64
    assert tensors["backbone.body.conv1.norm.running_mean"].tolist() == [0.0] * 64


def test_report_lists_what_does_not_fit(tmp_path):
    content = as_detectron2(tiny())
    content["some.other.weight"] = np.zeros(3, np.float32)
    content["pixel_mean"] = np.zeros((3, 1, 1), np.float32)
    del content["backbone.fpn_output3.bias"]
    path = save({"model": content}, tmp_path / "three_classes.pkl")
    model = tiny(num_classes=5)
    before = model.head.box.classes.weight.clone()
    report = load_weights(model, path)
    assert report.missing == ["neck.output.p3.bias"]
    assert report.unexpected == ["some.other.weight"]
    heads = ["head.box.classes", "head.box.deltas", "head.mask.logits"]
    assert report.mismatched == [f"{head}.{kind}" for head in heads for kind in ("bias", "weight")]
    assert torch.equal(model.head.box.classes.weight, before)
    assert not report.complete
    summary = report.summary()
    assert "head.box.classes.weight [4, 16] -> [6, 16]" in summary
    assert "1 in the file, not in this model: some.other.weight" in summary
    with pytest.raises(InputError, match=r"three_classes\.pkl does not fit this Detector"):
        load_weights(model, path, strict=True)


def test_other_architecture_is_refused_and_changes_nothing(tmp_path):
    path = save({"model": as_detectron2(tiny())}, tmp_path / "r18.pth")
    model = tiny(backbone="r50")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError, match=r"r18\.pth does not fit this Detector .* Give the preset"):
        load_weights(model, path)
    assert equal(model.state_dict(), before)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda value: value.astype(np.int8), "holds whole numbers (torch.int8), not weights"),
        (lambda value: value > 0, "holds whole numbers (torch.bool), not weights"),
        (lambda value: value * np.nan, "is not all finite numbers, as of a training that diverged"),
        (lambda value: value.astype(np.float64) + 1e300, "is not all finite numbers"),
    ],
)
def test_numbers_that_are_no_weights_are_refused_and_change_nothing(tmp_path, spoil, message):
    """A detector would load them, and find nothing without a word."""
    content = as_detectron2(tiny())
    content["backbone.fpn_output3.bias"] = spoil(content["backbone.fpn_output3.bias"] + np.float32(0.1))
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError) as told:
        load_weights(model, save({"model": content}, tmp_path / "a.pth"))
    assert f"a.pth: neck.output.p3.bias {message}" in str(told.value)
    assert equal(model.state_dict(), before)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("ending", ["pkl", "pth", "pt"])
def test_pickles_that_would_run_code_are_refused_and_do_not_run(tmp_path, ending):
    proof, path = tmp_path / "proof", tmp_path / f"weights.{ending}"
    content = {"model": {"backbone.bottom_up.stem.conv1.weight": np.ones(3)}, "x": Malicious(proof)}
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=f"weights.{ending}: .*"):
        load_weights(tiny(), path)
    assert not proof.exists()
    pickle.loads(path.read_bytes())["x"].close()
    assert proof.exists(), "the file does run code where it is not refused"


@pytest.mark.parametrize(
    "name",
    ["os.system", "builtins.eval", "numpy.core.multiarray.fromfile", "torch._utils._rebuild_tensor_v2"],
)
def test_refused_names_are_told(tmp_path, name):
    module, function = name.rsplit(".", 1)
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"\x80\x02c" + f"{module}\n{function}\n".encode() + b".")
    assert [op.name for op, *_ in pickletools.genops(path.read_bytes())][1] == "GLOBAL"
    with pytest.raises(InputError, match=f"weights.pkl: refused, .*could run code: it asks for {name}"):
        read_checkpoint(path)


@pytest.mark.parametrize("ending", ["pkl", "pth", "safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.6])
def test_truncated_files(tmp_path, ending, kept):
    path = save({"model": as_detectron2(tiny())}, tmp_path / f"cut.{ending}")
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(InputError, match=f"cut.{ending}: cannot be read as weights"):
        load_weights(tiny(), path)


def pickled(content, zipped=True):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.pkl", pickle.dumps([1, 2]), "holds a list, not a dict of named tensors"),
        ("empty.pkl", pickle.dumps({"model": {}}), "holds no tensors"),
        ("text.pth", b"not a checkpoint at all", "cannot be read as weights"),
        ("numbers.pth", pickled({"epoch": 3}), "holds no tensors"),
        ("tensor.pth", pickled(torch.zeros(2)), "holds a Tensor, not a dict of named tensors"),
        ("damaged.pt", pickled({"format": "srfgan"}), "a checkpoint of ours without 'modules'"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: {message}"):
        load_weights(tiny(), tmp_path / name)


def test_missing_file_and_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    for name in ("none.pth", "pipe.pth", ""):
        path = tmp_path / name
        with pytest.raises(InputError, match=f"{path.name}: no such weight file"):
            load_weights(tiny(), path)
    with pytest.raises(InputError, match="cannot be read: File name too long"):
        load_weights(tiny(), tmp_path / ("a" * 300))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n",
            "a Git LFS pointer, .*git lfs pull",
        ),
        (b"\n  <!DOCTYPE html><html>Sign in</html>", "a web page, which came in the place of the file"),
        (b'{"message": "Not Found"}', "a text file that begins with"),
        (b"\x1f\x8b\x08" + bytes(20), "a gzip archive; unpack it"),
        (bytes(257) + b"ustar" + bytes(100), "a tar archive; unpack it"),
        (bytes(600), "truncated, or not a checkpoint"),
    ],
)
@pytest.mark.parametrize("ending", ["pkl", "pth", "safetensors"])
def test_what_came_in_the_place_of_weights_is_told(tmp_path, content, message, ending):
    path = tmp_path / f"weights.{ending}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"weights.{ending}: cannot be read as weights: .*{message}"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.onnx", b"\x08\x08\x12\x07pytorch"), ("a.XML", b'<?xml version="1.0"?>\n<net name="a">')],
)
def test_an_exported_network_is_no_web_page_and_no_broken_pickle(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=f"{name}: cannot be read as weights: it is an exported network, .* checkpoint"
    ):
        read_checkpoint(path)


def test_the_content_decides_not_the_name(tmp_path):
    source = tiny()
    for ending in ("pkl", "pth", "safetensors"):
        path = save({"model": as_detectron2(source)}, tmp_path / f"weights.{ending}").rename(
            tmp_path / "weights.pt"
        )
        assert load_weights(tiny(), path).complete


def test_numbers_of_every_type_and_order_keep_their_values(tmp_path):
    arrays = {
        "bool": np.array([True, False]),
        "lone": np.array(True),
        "big": np.arange(3, dtype=">f8"),
        "half": np.arange(3, dtype=np.float16),
        "small": np.array([[-1, 2]], np.int8),
        "fortran": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
        "moved": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
        "none": np.zeros((0, 4), np.float32),
    }
    path = tmp_path / "weights"
    for protocol in range(6):
        path.write_bytes(pickle.dumps(arrays | {"labels": np.array(["é", "b"])}, protocol))
        found = read_checkpoint(path).tensors
        assert {name: value.tolist() for name, value in found.items()} == {
            k: v.tolist() for k, v in arrays.items()
        }
    tensors = {
        name: torch.from_numpy(np.array(array.astype(array.dtype.newbyteorder("="))))
        for name, array in arrays.items()
    }
    tensors |= {"brain": torch.arange(3).bfloat16(), "unsigned": torch.arange(3).to(torch.uint16)}
    tensors |= {"part": torch.arange(12.0).reshape(3, 4)[1:, ::2], "repeated": torch.ones(1).expand(5)}
    shared = torch.arange(4.0)
    tensors |= {"one": shared, "other": shared[2:], "parameter": torch.nn.Parameter(shared)}
    for zipped in (True, False):
        path.write_bytes(pickled(tensors, zipped=zipped))
        found = read_checkpoint(path).tensors
        assert all(found[k].dtype == v.dtype and found[k].tolist() == v.tolist() for k, v in tensors.items())
        assert found["one"].data_ptr() == found["parameter"].data_ptr(), "read once"


OBJECTS = b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8K\x00K\x01tR"
FLOATS = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4K\x00K\x01tR"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
EIGHT = b"C\x08ABCDEFGH"


@pytest.mark.parametrize(
    "value",
    [
        b"cnumpy.core.multiarray\nscalar\n(" + OBJECTS + EIGHT + b"tR",
        b"cnumpy.core.numeric\n_frombuffer\n(" + EIGHT + OBJECTS + b"(K\x01tX\x01\x00\x00\x00CtR",
        ARRAY + b"(K\x01(K\x01t" + OBJECTS + b"I00\n" + EIGHT + b"tb",
        ARRAY + b"(K\x01(K\x03t" + FLOATS + b"I00\n" + EIGHT + b"tb",
        ARRAY + b"(K\x01(\x8a\x08\0\0\0\0\0\0\0\x40K\x04t" + FLOATS + b"I00\n" + EIGHT + b"tb",
        FLOATS + b"(K\x03X\x01\x00\x00\x00<NX\x01\x00\x00\x00a}J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb",
        b"cnumpy\nndarray\n(K\x09tR",
        b"]q\x01h\x01ab",
        b"\x8e" + b"\xff" * 7 + b"\x3fABC",
        b"\x8b\xff\xff\xff\x7fABC",
        b"}" + b"(" + b"N\x85" * 100 + b"N" + b"u",
        b"}" + b"N" + b"\x85" * 200_000 + b"Ns",
        b"NNr\xff\xff\xff\xff" + b"b",
        b"NQ",
        b"N\x81",
        b"\x97",
    ],
)
def test_hostile_pickles_are_refused(tmp_path, value):
    """States that would make numpy follow pointers of the file, and requests for more than there is."""
    path = tmp_path / "hostile.pkl"
    path.write_bytes(b"\x80\x02}X\x01\x00\x00\x00a" + value + b"s.")
    with pytest.raises(InputError, match=r"hostile.pkl: (refused|cannot be read as weights)"):
        read_checkpoint(path)


class Placed:
    """A tensor by the arguments of torch's function that makes it."""

    def __init__(self, name, *arguments):
        self.name, self.arguments = name, arguments

    def __reduce__(self):
        return (getattr(torch._utils, self.name), self.arguments)


def storage():
    return torch.storage.TypedStorage(
        wrap_storage=torch.zeros(16, dtype=torch.uint8).untyped_storage(), dtype=torch.float32
    )


def placed(offset, size, stride):
    return Placed("_rebuild_tensor_v2", storage(), offset, size, stride, False, {})


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (placed(0, (2**40,), (1,)), "no room"),
        (placed(3, (2,), (1,)), "no room"),
        (placed(-1, (2,), (1,)), "no room"),
        (placed(0, (2**40,), (0,)), "more than the file holds"),
        (placed(0, (2,), (-1,)), "impossible shape"),
        (placed(0, (2,), (1, 1)), ""),
        (torch.eye(2).to_sparse(), "_rebuild_sparse_tensor"),
        (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "_rebuild_qtensor|QInt8Storage"),
        (torch.zeros(2, device="meta"), "meta"),
        (torch.zeros(2, dtype=torch.complex64), "weight is a torch.complex64 tensor"),
    ],
)
def test_tensors_that_are_not_what_they_say_are_refused(tmp_path, value, message, zipped):
    path = tmp_path / "hostile.pth"
    path.write_bytes(pickled({"weight": value}, zipped=zipped))
    with pytest.raises(InputError, match=f"hostile.pth: .*({message})"):
        read_checkpoint(path)


def test_archives_that_would_unpack_to_more_than_they_are_refused(tmp_path):
    whole = pickled({"weight": torch.zeros(1_000_000)})
    bomb, foreign = tmp_path / "bomb.pth", tmp_path / "foreign.pth"
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(InputError, match=r"bomb.pth: refused, .*its content is compressed"):
        read_checkpoint(bomb)
    with zipfile.ZipFile(foreign, "w") as new:
        new.writestr("README", "x")
    with pytest.raises(InputError, match=r"foreign.pth: .*a zip archive, but not torch's: unpack it"):
        read_checkpoint(foreign)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (dict.fromkeys(map(str, range(20_001)), torch.zeros(1)), "20,001 tensors, more than any"),
        ({"backbone.fpn_lateral" + "9" * 5000 + ".": torch.zeros(1)}, "a name of 5021 letters"),
        ({"format": "srfgan", "modules": {"detector": [1]}}, "without 'modules'"),
        ({"format": "srfgan", "modules": {"detector": {"a": 1}}}, "a is a int, not a tensor"),
        ({"format": "srfgan", "modules": {}, "stage": []}, "does not say what it is"),
        (
            {"format": "srfgan", "modules": {}, "categories": [[[] * 9] * 400] * 400},
            "does not say what it is",
        ),
    ],
)
def test_checkpoints_of_impossible_content_are_refused(tmp_path, content, message):
    path = tmp_path / "odd.pth"
    path.write_bytes(pickled(content))
    with pytest.raises(InputError, match=f"odd.pth: .*{message}"):
        read_checkpoint(path)
