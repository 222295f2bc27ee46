"""`srfgan export --format detectron2` and the plug-in: as data where detectron2 is missing, run where it is not."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest
import torch
import yaml
from detector_configs import model_config

from srfgan.models import build_detector
from srfgan.models.config import DETECTORS, BackboneName, NeckConfig, NeckName, parse_model
from srfgan.models.upsamplers import UPSAMPLERS
from srfgan.models.weights import load_weights
from srfgan.models.weights.names import is_derived, to_ours
from srfgan_cli.export import export_preset
from srfgan_cli.export.detectron2_config import bifpn_wiring, detectron2_config
from srfgan_cli.export.detectron2_file import detectron2_names, open_detectron2, write_detectron2
from srfgan_cli.presets import load_preset
from srfgan_cli.runs.trained import TrainedDetector

PARITY = Path(__file__).parent.parent / "parity" / "data"
with_detectron2 = pytest.mark.skipif(find_spec("detectron2") is None, reason="detectron2 is not installed")

WITHOUT_PUBLISHED_NAMES = {"atss", "libra_rcnn", "panet"}
"""Detectors whose tensors nobody else has names for."""
NECKS = [name for name in get_args(NeckName) if name != "augfpn"]
"""Those that somebody else has names for."""
ZOO = [
    *({"backbone": {"name": name}, "neck": {"upsampler": "nn"}} for name in get_args(BackboneName)),
    *({"neck": {"upsampler": name}} for name in UPSAMPLERS),
    {"neck": {"generator": {"width": 0.25, "blocks": 2}}},
    *({"neck": {"name": name, "norm": norm}} for name in NECKS for norm in ("none", "bn")),
    *({"detector": name} for name in DETECTORS if name not in WITHOUT_PUBLISHED_NAMES),
]


@pytest.mark.parametrize("values", ZOO, ids=str)
def test_every_tensor_has_a_name_of_its_own_that_reads_back(values):
    config = parse_model(values)
    with torch.device("meta"):
        state = build_detector(config).state_dict()
    names = detectron2_names(state, bifpn_wiring(config))
    assert set(names.values()) == {name for name in state if not name.endswith("loss_normalizer")}
    assert [to_ours(theirs) for theirs in names] == list(names.values())
    parts = ("backbone.", "proposal_generator.", "roi_heads.", "head.", "init_proposal_")
    assert all(name.startswith(parts) for name in names)


def test_the_files_hold_weights_by_detectron2s_names_and_the_whole_config(srfgan, trained, monkeypatch):
    monkeypatch.setattr(export_preset, "has_detectron2", lambda: False)
    made = trained("mask_rcnn_r18_fpn_nn")
    outcome = srfgan("export", *made.options, "--format", "detectron2", "--json")
    assert outcome.code == 0, outcome.err
    assert "detectron2 is not installed" in outcome.err
    report = json.loads(outcome.out)
    weights, config = made.path.with_suffix(".pth"), made.path.with_suffix(".yaml")
    assert (report["output"], report["config"], report["images"]) == (str(weights), str(config), [])
    assert {path.name for path in made.path.parent.iterdir()} == {"model.pt", "model.pth", "model.yaml"}

    again = build_detector(made.detector.config)
    assert load_weights(again, weights, strict=True).loaded > 0
    for name, value in made.detector.state_dict().items():
        assert is_derived(name) or torch.equal(again.state_dict()[name], value)

    text = config.read_text()
    assert "add_srfgan_config" not in text
    assert '["cell", "größe", "rest"]' in text
    values = yaml.safe_load(text)
    model = values["MODEL"]
    assert (model["META_ARCHITECTURE"], model["WEIGHTS"]) == ("GeneralizedRCNN", "model.pth")
    assert model["BACKBONE"] == {"NAME": "build_resnet_fpn_backbone", "FREEZE_AT": 0}
    assert model["RESNETS"]["DEPTH"] == 18
    assert model["PIXEL_MEAN"] == [123.675, 116.28, 103.53]
    assert model["ANCHOR_GENERATOR"]["SIZES"] == [[16.0], [32.0], [64.0], [128.0], [256.0]]
    assert model["RPN"]["PRE_NMS_TOPK_TEST"] == 200
    assert model["ROI_HEADS"]["NUM_CLASSES"] == 3
    assert model["ROI_HEADS"]["SCORE_THRESH_TEST"] == pytest.approx(float(made.options[-1].split("=")[1]))
    assert values["INPUT"] == {
        "FORMAT": "RGB",
        "MIN_SIZE_TRAIN": [256, 288, 320],
        "MAX_SIZE_TRAIN": 480,
        "MIN_SIZE_TEST": 288,
        "MAX_SIZE_TEST": 480,
        "RANDOM_FLIP": "horizontal",
    }


@pytest.mark.parametrize(
    ("preset", "overrides", "backbone", "srf"),
    [
        ("mask_rcnn_r50_fpn", [], "build_resnet_srf_fpn_backbone", {"UPSAMPLER": "srf"}),
        ("mask_rcnn_r50_pafpn_nn", [], "build_resnet_srf_pafpn_backbone", {"UPSAMPLER": "nn"}),
        (
            "mask_rcnn_r50_fpn_thin",
            [],
            "build_resnet_srf_fpn_backbone",
            {"UPSAMPLER": "srf", "GENERATOR_WIDTH": 64},
        ),
        ("retinanet_r50_fpn_nn", [], "build_retinanet_resnet_fpn_backbone", None),
        ("retinanet_r50_fpn", [], "build_retinanet_resnet_srf_fpn_backbone", {"UPSAMPLER": "srf"}),
        (
            "cascade_s101_pafpn",
            [],
            "build_timm_srf_pafpn_backbone",
            {"UPSAMPLER": "afi", "BACKBONE": "s101"},
        ),
        ("mask_rcnn_r50_fpn_nn", ["model.backbone.name=x101_64x4d"], "build_resnet_fpn_backbone", None),
    ],
)
def test_the_config_names_a_backbone_that_stock_detectron2_or_the_plugin_has(
    preset, overrides, backbone, srf
):
    config = load_preset(preset, overrides)
    model = detectron2_config(config, config.model, "w.pth")["MODEL"]
    assert model["BACKBONE"]["NAME"] == backbone
    assert model.get("SRF") == srf


def test_an_r50_config_says_what_detectron2s_own_baseline_says():
    config = load_preset("retinanet_r50_fpn_nn")
    model = detectron2_config(config, config.model, "w.pth")["MODEL"]
    octaves = [[x, x * 2 ** (1 / 3), x * 2 ** (2 / 3)] for x in (32, 64, 128, 256, 512)]
    assert [pytest.approx(sizes) for sizes in model["ANCHOR_GENERATOR"]["SIZES"]] == octaves
    assert model["RESNETS"]["OUT_FEATURES"] == model["FPN"]["IN_FEATURES"] == ["res3", "res4", "res5"]
    assert model["RETINANET"]["SMOOTH_L1_LOSS_BETA"] == 0.0
    config = load_preset("cascade_s101_fpn_nn")
    model = detectron2_config(config, config.model, "w.pth")["MODEL"]
    assert model["ROI_HEADS"]["NAME"] == "CascadeROIHeads"
    assert model["ROI_BOX_HEAD"]["CLS_AGNOSTIC_BBOX_REG"] is True
    assert (model["ROI_BOX_HEAD"]["NORM"], model["FPN"]["NORM"]) == ("BN", "BN")


@pytest.mark.parametrize(
    ("preset", "arguments", "message"),
    [
        ("fcos_r18_fpn", [], "--format detectron2 has no fcos"),
        ("mask_rcnn_r18_augfpn", [], "--format detectron2 has no AugFPN"),
        ("mask_rcnn_r18_fpn", ["--output", "model.onnx"], "a file of --format detectron2 is named *.pth"),
        (
            "mask_rcnn_r18_fpn",
            ["--weights", "model.pth"],
            "holds the weights themselves; name another --output",
        ),
        ("mask_rcnn_r18_fpn", ["--output", "own.pth"], "own.yaml is in the way"),
        (
            "mask_rcnn_r18_fpn_nn",
            ["--set", "model.neck.name=bifpn", "--set", "model.neck.bifpn.wiring=adelaidet"],
            "has no BiFPN of the wiring 'adelaidet'",
        ),
        (
            "mask_rcnn_r18_pafpn_nn",
            ["--set", "model.neck.pafpn.wiring=paper"],
            "has no PAFPN of the wiring 'paper'",
        ),
        ("panet_r18_pafpn", [], "--format detectron2 has no panet"),
        ("tridentnet_r18_c4", [], "--format detectron2 has no tridentnet"),
    ],
)
def test_what_cannot_be_written_is_one_message(srfgan, tmp_path, preset, arguments, message):
    (tmp_path / "own.yaml").write_text("base: small\n")
    for name in ("model.pt", "model.pth"):
        (tmp_path / name).touch()
    if "--weights" not in arguments:
        arguments = [*arguments, "--weights", "model.pt"]
    outcome = srfgan("export", "--preset", preset, "--format", "detectron2", *arguments)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.split())
    assert (tmp_path / "own.yaml").read_text() == "base: small\n"


def test_the_plugin_says_how_to_get_detectron2(monkeypatch):
    monkeypatch.setitem(sys.modules, "detectron2", None)
    for name in ("srfgan_cli.detectron2_plugin", "srfgan_cli.export.detectron2_plugin"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError, match=r"pip install .*github.com/facebookresearch/detectron2"):
        import srfgan_cli.detectron2_plugin  # noqa: F401


@with_detectron2
@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        ("faster_rcnn_r18_fpn_nn", []),
        ("mask_rcnn_r18_fpn", []),
        ("mask_rcnn_r18_fpn_thin", []),
        ("mask_rcnn_r18_pafpn", ["model.neck.upsampler=carafe", "model.neck.norm=bn"]),
        ("cascade_mask_rcnn_r18_fpn_nn", ["model.box_head.num_convs=1", "model.box_head.norm=bn"]),
        ("cascade_mask_rcnn_r18_fpn", ["model.backbone.name=r10", "model.mask_head.norm=bn"]),
        ("mask_rcnn_r18_fpn", ["model.neck.upsampler=afi", "model.backbone.name=v39"]),
        ("mask_rcnn_r18_pafpn", ["model.neck.upsampler=bilinear", "model.backbone.name=swin_t"]),
        (
            "faster_rcnn_r18_fpn",
            ["stages=[finetune]", "model.neck={name: bifpn, channels: 32, bifpn: {repeats: 2}}"],
        ),
        (
            "mask_rcnn_r18_fpn",
            [
                "stages=[finetune]",
                "model.neck={name: bifpn, channels: 32, bifpn: {wiring: afigan, repeats: 2}}",
            ],
        ),
    ],
)
def test_detectron2_finds_the_same(srfgan, trained, pictures, preset, overrides):
    made = trained(preset, *overrides)
    options = [part for override in overrides for part in ("--set", override)]
    outcome = srfgan("export", *made.options, *options, "--format", "detectron2", "--json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert [image["same"] for image in report["images"]] == [image["expected"] for image in report["images"]]
    run = open_detectron2(made.path.with_suffix(".pth"), made.detector)
    # Not the picture of one colour: its scores are equal, and NMS among them is chance.
    for found, picture in zip(made.expected[:4], pictures, strict=False):
        assert_same(found, run(picture))
    assert sum(len(found) for found in made.expected[:4]) > 0


@with_detectron2
@pytest.mark.parametrize("preset", ["retinanet_r18_fpn_nn", "retinanet_r18_fpn"])
def test_detectron2s_retinanet_finds_the_same(tmp_path, pictures, preset):
    config = load_preset(preset, ["model.neck.channels=32", "model.inference.score_threshold=0.0"])
    torch.manual_seed(0)
    detector = build_detector(config.model).eval()
    for layer, std in ((detector.head.subnets.classes, 0.5), (detector.head.subnets.deltas, 0.02)):
        torch.nn.init.normal_(layer.weight, std=std)
    path = tmp_path / "model.pth"
    write_detectron2(config, TrainedDetector(detector, path, None), path, path)
    run = open_detectron2(path, detector)
    for picture in pictures[:3]:
        with torch.no_grad():
            found = detector.detect([picture])[0]
        assert len(found) > 10
        assert_same(found, run(picture))


def assert_same(found, outputs):
    assert outputs["labels"].tolist() == found.labels.tolist()
    torch.testing.assert_close(outputs["boxes"], found.boxes, rtol=0, atol=1e-3)
    torch.testing.assert_close(outputs["scores"], found.scores, rtol=0, atol=1e-5)
    if found.mask_probs is not None:
        torch.testing.assert_close(outputs["masks"], found.mask_probs, rtol=0, atol=1e-4)


def own_config(name, upsampler, *overrides):
    """A config of detectron2's own zoo with another backbone, as a user would write it."""
    from detectron2 import model_zoo
    from detectron2.config import get_cfg

    from srfgan_cli.detectron2_plugin import add_srfgan_config

    cfg = get_cfg()
    add_srfgan_config(cfg)
    cfg.merge_from_file(model_zoo.get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"))
    cfg.merge_from_list(
        ["MODEL.BACKBONE.NAME", name, "MODEL.SRF.UPSAMPLER", upsampler, "MODEL.DEVICE", "cpu"]
    )
    cfg.merge_from_list(list(overrides))
    return cfg


@with_detectron2
@pytest.mark.parametrize("neck", ["fpn", "pafpn"])
def test_a_users_config_with_the_plugin_takes_the_published_checkpoints(neck):
    from detectron2.modeling import build_model

    model = build_model(own_config(f"build_resnet_srf_{neck}_backbone", "afi"))
    spec = json.loads((PARITY / f"afi_mask_rcnn_r50_{neck}" / "spec.json").read_text())
    assert {name: list(value.shape) for name, value in model.state_dict().items()} == spec["parameters"]


@with_detectron2
def test_detectron2s_trainer_trains_the_generator_and_its_checkpointer_saves_it(tmp_path):
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.engine import SimpleTrainer
    from detectron2.modeling import build_model
    from detectron2.solver import build_optimizer
    from detectron2.structures import Boxes, Instances, PolygonMasks
    from detectron2.utils.events import EventStorage

    torch.manual_seed(0)
    small = ["MODEL.SRF.BACKBONE", "r10", "MODEL.FPN.OUT_CHANNELS", 16, "MODEL.ROI_BOX_HEAD.FC_DIM", 32]
    cfg = own_config("build_timm_srf_fpn_backbone", "srf", *small, "MODEL.ROI_MASK_HEAD.CONV_DIM", 16)
    model = build_model(cfg).train()
    truth = Instances((96, 128))
    truth.gt_boxes = Boxes(torch.tensor([[10.0, 10.0, 60.0, 70.0]]))
    truth.gt_classes = torch.tensor([1])
    truth.gt_masks = PolygonMasks([[torch.tensor([10, 10, 60, 10, 60, 70]).double().numpy()]])
    batch = [{"image": torch.randint(0, 256, (3, 96, 128)).float(), "instances": truth}]
    before = {name: value.clone() for name, value in model.named_parameters()}
    trainer = SimpleTrainer(model, [batch, batch], build_optimizer(cfg, model))
    with EventStorage(0) as trainer.storage:
        trainer.run_step()
    names = [name for name in before if name.startswith("backbone.srf_module.") and not name.endswith("bias")]
    changed = dict(model.named_parameters())
    assert len(names) > 20
    assert all(not torch.equal(before[name], changed[name]) for name in names)
    frozen = "backbone.bottom_up.stem.conv1.weight"
    assert torch.equal(before[frozen], changed[frozen])

    DetectionCheckpointer(model, str(tmp_path)).save("trained")
    other = build_model(cfg)
    DetectionCheckpointer(other).load(str(tmp_path / "trained.pth"))
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    config = model_config(
        backbone={"name": "r10"},
        neck=NeckConfig(channels=16),
        box_head={"fc_dim": 32},
        mask_head={"channels": 16},
    )
    assert load_weights(build_detector(config), tmp_path / "trained.pth").complete


@with_detectron2
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["MODEL.SRF.UPSAMPLER", "sr"], "MODEL.SRF.UPSAMPLER: 'sr' is not one of 'nn'"),
        (["MODEL.FPN.NORM", "GN"], "MODEL.FPN.NORM: 'GN' is not one of '', 'BN', 'SyncBN'"),
        (["MODEL.FPN.FUSE_TYPE", "avg"], "MODEL.FPN.FUSE_TYPE"),
        (["MODEL.SRF.BACKBONE", "r34"], "MODEL.SRF.BACKBONE: 'r34' is not one of"),
    ],
)
def test_the_plugin_refuses_what_it_has_not(overrides, message):
    from detectron2.modeling import build_backbone

    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        build_backbone(own_config("build_timm_srf_fpn_backbone", "srf", *overrides))


@with_detectron2
def test_the_plugin_asks_for_its_keys():
    from detectron2.config import get_cfg
    from detectron2.modeling import build_backbone

    import srfgan_cli.detectron2_plugin  # noqa: F401

    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_resnet_srf_fpn_backbone"
    with pytest.raises(ValueError, match="add_srfgan_config"):
        build_backbone(cfg)
