"""The scene as a data set on disk."""

import json

import pytest
from scenes import make

from srfgan_cli.data.coco import CocoIndex


@pytest.fixture
def scene(tmp_path):
    def open_scene(crowds=False, **options):
        document, results = make(crowds, **options)
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(document))
        return CocoIndex.load(path), results

    return open_scene
