"""Where the weights of an address are kept. Nothing here goes to the network, or imports what does."""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from srfgan_cli.machine.files import user_caches

SUFFIXES = (".pth", ".pkl", ".pt", ".safetensors")


def weights_folder() -> Path:
    """Where fetched weights are kept: `srfgan` in torch hub's folder of checkpoints, which `$TORCH_HOME` moves."""
    home = Path(os.environ.get("TORCH_HOME") or user_caches() / "torch").expanduser()
    return home / "hub" / "checkpoints" / "srfgan"


def cached_path(url: str) -> Path:
    """The file in which the weights of `url` are kept, or would be; nothing is fetched."""
    return weights_folder() / file_name(url)


def file_name(url: str) -> str:
    """What the file of `url` is called here: the host's own name or id, and what tells it from namesakes.

    Authors call every checkpoint `model_final.pth`, so eight digits of the address's hash follow.
    """
    parts = urlsplit(url)
    last = PurePosixPath(unquote(parts.path)).name
    suffix = next((suffix for suffix in SUFFIXES if last.endswith(suffix)), "")
    given = parse_qs(parts.query).get("id", [""])[0] or last.removesuffix(suffix) or "weights"
    stem = re.sub(r"[^\w.-]", "_", given, flags=re.ASCII)[:80]
    return f"{stem}-{sha256(url.encode()).hexdigest()[:8]}{suffix or '.pth'}"
