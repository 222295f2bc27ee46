"""Published upsamplers against their authors' code: outputs, and the gradients of maps and weights."""

import numpy as np
import torch
from parity_cases import ParityCase

from srfgan.models import build_upsampler

KINDS = ("upsampler",)
NAMES = {
    "lda_aqu": {
        "layer_norm.norm": "norm",
        "proj_q": "query",
        "proj_k": "key",
        "relative_position_bias_table": "key_bias",
        "conv_offset.0": "context",
        "conv_offset.1.norm": "context_norm",
        "conv_offset.3": "offset",
    },
    "freqfusion": {
        "lr_channel_compressor": "compress_coarse",
        "hr_channel_compressor": "compress_fine",
        "content_encoder": "low",
        "content_encoder2": "high",
        "dysampler.norm_lr": "moves.norm_coarse",
        "dysampler.norm_hr": "moves.norm_fine",
        "dysampler.offset": "moves.coarse_move",
        "dysampler.direct_scale": "moves.coarse_scope",
        "dysampler.hr_offset": "moves.fine_move",
        "dysampler.hr_direct_scale": "moves.fine_scope",
    },
    "fade": {
        "ker_generator.compressor_de": "compress_coarse",
        "ker_generator.compressor_en": "compress_fine",
        "ker_generator.content_encoder": "encode",
        "gate_generator.conv": "gate",
    },
}
"""The reference's modules and parameters, and ours."""


def test_upsampler(case_folder):
    case = ParityCase(case_folder)
    kind, shapes = case.spec["upsampler"], case.spec["input"]["shapes"]

    def to_ours(name: str) -> str:
        module, _, last = name.rpartition(".")
        return NAMES[kind].get(name) or f"{NAMES[kind].get(module, module)}.{last}"

    upsample = build_upsampler(kind, shapes[0][1])
    ours = dict(upsample.named_parameters())
    weights = {to_ours(name): torch.from_numpy(values) for name, values in case.weights().items()}
    assert weights.keys() == ours.keys()
    upsample.load_state_dict({name: values.reshape(ours[name].shape) for name, values in weights.items()})

    rng = np.random.RandomState(case.spec["input"]["seed"])
    numbers = (torch.from_numpy(rng.standard_normal(shape).astype(np.float32)) for shape in shapes)
    maps = [x.requires_grad_() for x in numbers]
    output = upsample(*maps)
    case.assert_close("output", output)
    (output * torch.from_numpy(rng.standard_normal(output.shape).astype(np.float32))).sum().backward()
    for index, x in enumerate(maps):
        case.assert_close(f"grad_input{index}", x.grad)
    case.assert_gradients(ours, named=to_ours)
