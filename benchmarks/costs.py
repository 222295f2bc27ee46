"""The cost of every preset's detector, as `srfgan presets show` tells it.

    python benchmarks/costs.py > presets/_facts/costs.yaml

Each detector is built on the meta device and counted on an image of 800 x 1216 pixels; a minute and a half of one core.
The tests say which line is not of today.
"""

from dataclasses import astuple

from srfgan.models.count import cost_of
from srfgan_cli.presets.tables import shipped

HEAD = """\
# What the detector of each preset costs, not a preset: parameters, and the multiply-accumulates of backbone, neck
# and head in detecting on an image of 800x1216. `python benchmarks/costs.py` has written this."""


def main() -> None:
    models = {name: config.model for name, config in shipped().items()}
    different = {model.model_dump_json(): model for model in models.values()}
    counted = {key: cost_of(model) for key, model in different.items()}
    print(HEAD)
    for name, model in models.items():
        print(f"{name}: {list(astuple(counted[model.model_dump_json()]))}")


if __name__ == "__main__":
    main()
