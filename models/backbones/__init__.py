"""Backbones: images (N, 3, H, W) to {"res2": ..., "res5": ...} at strides 4 to 32."""
