"""What upsamples a feature map by two in a pyramid's top-down path.

A plain upsampler is a module mapping (N, C, H, W) to (N, C, 2H, 2W). A guided one has `guided = True` in its class,
and its `forward` takes the finer map, (N, C, 2H, 2W), beside the coarse one. `seam.py` calls both.

Importing this module does not import torch.
"""

UPSAMPLERS = {
    "nn": "interpolation:nearest",
    "bilinear": "interpolation:bilinear",
    "bicubic": "interpolation:bicubic",
    "srf": "generators:SRFGenerator",
    "afi": "generators:AFIGenerator",
    "deconv": "convolutions:Deconvolution",
    "pixelshuffle": "convolutions:SubPixelConvolution",
    "carafe": "carafe:Carafe",
    "dysample": "dysample:DySample",
    "lda_aqu": "lda_aqu:LdaAqu",
    "freqfusion": "freqfusion:FreqFusion",
    "fade": "fade:Fade",
    "sapa": "sapa:Sapa",
}
"""Names in configs and on the command line, and what makes each: a module here, and in it a class that takes the maps'
channels. A line here is all that a new class needs: configs, options, README and tests read this table."""
WITHOUT_WEIGHTS = tuple(name for name, made in UPSAMPLERS.items() if made.startswith("interpolation:"))
"""Those of them that have none: no parameter of a neck is called `neck.upsample.*`."""
GENERATORS = ("srf", "afi")
"""Those of them that stage 1 trains: the papers' two bodies."""
SIZED = "srf"
"""The one whose width and depth can be chosen; `afi` is as large as in the published checkpoints."""
