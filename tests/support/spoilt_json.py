"""JSON files as the fuzz tests write them: mostly whole, now and then as no json is."""

import json


def written(document, rng, spoilt: float) -> bytes:
    """Its bytes; a share `spoilt` of all documents in another encoding, cut off, or as no reader expects it."""
    text = json.dumps(document)
    ways = [
        lambda: text.encode("utf-8-sig"),
        lambda: text.encode("utf-16"),
        lambda: text.encode()[: rng.randrange(len(text))],
        lambda: b"[" * 200_000,
        lambda: text.replace("1", "1" * 5000, 3).encode(),
        lambda: text.encode() + b"\xff",
    ]
    return rng.choice(ways)() if rng.random() < spoilt else text.encode()
