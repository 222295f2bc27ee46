"""Tensor functions that heads are made of: boxes, anchors, matching, sampling, pooling, masks, losses."""
