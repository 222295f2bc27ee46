"""Reading weight files of every supported origin into our models, without ever running code from a file.

report = load_weights(model, "model_final.pkl")
print(report.summary())
"""

from models.weights.files import Checkpoint, read_checkpoint
from models.weights.load import LoadReport, load_imagenet, load_weights

__all__ = ["Checkpoint", "LoadReport", "load_imagenet", "load_weights", "read_checkpoint"]
