"""A data set of three classes, and results with errors of every kind."""

import random

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 9, "name": "größe"}]
IMAGES = 24


def make(crowds, seed=5, number=IMAGES):
    """The annotations, and results that move, mistake, repeat, miss and invent objects."""
    draw = random.Random(seed)
    images = [{"id": 10 + 2 * n, "file_name": f"{n}.png", "height": 200, "width": 240} for n in range(number)]
    annotations, results = [], []

    def add(image, category, box):
        score = round(draw.random(), 4)
        results.append({"image_id": image, "category_id": category, "bbox": box, "score": score})

    for image in images:
        for _ in range(draw.randint(0, 7)):
            x, y, w, h = draw.uniform(0, 150), draw.uniform(0, 120), draw.uniform(8, 80), draw.uniform(8, 70)
            category = draw.choice((3, 7, 9))
            crowd = int(crowds and draw.random() < 0.2)
            number = len(annotations) + 1
            annotations.append(
                {"id": number, "image_id": image["id"], "category_id": category, "iscrowd": crowd}
                | {"bbox": [x, y, w, h], "area": w * h}
            )
            for _ in range(draw.choice((0, 1, 1, 2, 3))):
                much = draw.choice((0, 0.1, 0.3, 0.6))
                dx, dy = draw.uniform(-much, much) * w, draw.uniform(-much, much) * h
                named = category if draw.random() < 0.8 else draw.choice((3, 7, 9))
                add(image["id"], named, [x + dx, y + dy, w * draw.uniform(1 - much / 2, 1 + much / 2), h])
        for _ in range(2):
            add(image["id"], draw.choice((3, 7, 9)), [draw.uniform(0, 200), draw.uniform(0, 150), 25, 25])
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}, results
