"""The name under which users' programs import detectron2's plug-in; the code is in `srfgan_cli.export`."""

from srfgan_cli.export.detectron2_plugin import SRFPyramid, add_srfgan_config, build_pyramid

__all__ = ["SRFPyramid", "add_srfgan_config", "build_pyramid"]
