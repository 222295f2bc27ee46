"""Heads: a pyramid and targets to named losses, a pyramid to `Detections`."""
