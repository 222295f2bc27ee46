"""Reading weight files of every supported origin into our models, without ever running code from a file.

report = load_weights(model, "model_final.pkl")
print(report.summary())
"""

from srfgan.models.weights.files import Checkpoint, read_checkpoint
from srfgan.models.weights.imagenet import load_backbone, load_imagenet
from srfgan.models.weights.load import load_weights
from srfgan.models.weights.report import LoadReport

__all__ = ["Checkpoint", "LoadReport", "load_backbone", "load_imagenet", "load_weights", "read_checkpoint"]
