"""Weight files: what is read, what is reported, and what is refused."""

import io
import pickle
import pickletools
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from models import build_detector, build_discriminator, build_generator
from models.config import (
    BackboneConfig,
    BoxHeadConfig,
    DiscriminatorConfig,
    MaskHeadConfig,
    ModelConfig,
    NeckConfig,
)
from models.errors import InputError
from models.weights import load_imagenet, load_weights, read_checkpoint
from models.weights.names import to_detectron2, to_ours


def tiny(upsampler="nn", num_classes=3, backbone="r18"):
    config = ModelConfig(
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
        model = SimpleNamespace(config=ModelConfig(backbone=BackboneConfig(name="swin_t")))
        load_imagenet(model, tmp_path)
    name = "swin_tiny_patch4_window7_224"
    assert str(error.value) == (
        f"the ImageNet weights of {name} cannot be downloaded (no network). Put "
        f"https://huggingface.co/timm/{name}.ms_in1k/resolve/main/model.safetensors to "
        f"{tmp_path / name}.safetensors, or use initial_weights=none"
    )
    model = SimpleNamespace(config=ModelConfig(backbone=BackboneConfig(name="v99")))
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


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(InputError, match=f"{path.name}: no such weight file"):
            load_weights(tiny(), path)
