"""Data sets in COCO layout: reading, checking, sampling, loading; and the built-in `shapes`.

`srfgan_cli.data.open.open_split` is the one entry that the commands use. Nothing is imported here, so that
importing the package costs no import of torch.
"""
