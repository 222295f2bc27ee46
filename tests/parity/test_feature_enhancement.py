"""The two terms of feature enhancement against the authors' last version, on the weights of a ResNet-50."""

import pytest
import torch
from parity_cases import ParityCase

from srfgan.models.config import BackboneConfig
from srfgan.models.factory import build_backbone
from srfgan.models.weights.names import to_ours
from srfgan_cli.presets.config import FeatureEnhancementConfig
from srfgan_cli.training.feature_enhancement import enhancement_losses

KINDS = ("regularizers",)


@pytest.fixture(scope="module")
def case(case_folder):
    return ParityCase(case_folder)


@pytest.mark.parametrize("norm", ["frozen_bn", "bn"])
@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn"])
def test_terms_and_gradients(case, detector, norm):
    golden = case.spec["results"]["frozen_bn" if norm == "frozen_bn" else "batch_norm"][detector]
    backbone = build_backbone(BackboneConfig(norm=norm, freeze_at=2))
    weights = {to_ours(n).removeprefix("backbone."): torch.from_numpy(v) for n, v in case.weights().items()}
    assert not backbone.load_state_dict(weights, strict=False).unexpected_keys

    config = FeatureEnhancementConfig(l2=golden["lambda_l2"], variance=golden["lambda_var"])
    losses = enhancement_losses(backbone, config)
    case.check("losses", "l2", abs(losses["loss_fe_l2"].item() / golden["l2_term"] - 1))
    case.check("losses", "variance", abs(losses["loss_fe_variance"].item() / -golden["variance_term"] - 1))
    total = sum(losses.values())
    assert total.item() == pytest.approx(golden["added_to_loss"], rel=1e-4)

    total.backward()
    gradients = {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}
    assert {name.split(".")[1] for name in gradients} == {"layer2", "layer4"}
    for name, expected in golden["gradient_norms"].items():
        found = gradients[to_ours(name).removeprefix("backbone.")]
        assert float(found.double().norm()) == pytest.approx(expected, rel=1e-4), name
    for stage in ("layer4", "layer2"):
        expected = case.golden[f"{detector}_grad_{stage}.0.conv1.weight"]
        found = gradients[f"body.{stage}.0.conv1.weight"]
        case.assert_equal(f"{detector}, gradient of {stage}", found, expected)
