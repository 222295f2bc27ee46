"""Pictures: feature maps, detections, training curves."""
