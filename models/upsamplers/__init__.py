"""What upsamples a feature map by two: every upsampler is a module mapping (N, C, H, W) to (N, C, 2H, 2W)."""

from models.upsamplers.carafe import Carafe
from models.upsamplers.convolutions import Deconvolution, SubPixelConvolution
from models.upsamplers.dysample import DySample
from models.upsamplers.generators import SLOPE, AFIGenerator, SRFGenerator
from models.upsamplers.interpolation import Interpolation

__all__ = [
    "SLOPE",
    "AFIGenerator",
    "Carafe",
    "Deconvolution",
    "DySample",
    "Interpolation",
    "SRFGenerator",
    "SubPixelConvolution",
]
