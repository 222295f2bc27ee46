"""`hf://OWNER/NAME[@REVISION]` in place of a weight file: a shared detector, from Hugging Face's hub."""

from __future__ import annotations

import re
from pathlib import Path

from srfgan.models.errors import InputError

HUB_FILE = "model.safetensors"
"""The file that holds the whole detector: weights, config and categories."""
_SCHEME = re.compile(r"hf:/+")  # a Path has one slash left
_ADDRESS = re.compile(r"([\w.-]+/[\w.-]+)(?:@(.+))?")


def is_on_hub(path: Path) -> bool:
    """Whether a path is an address on the hub."""
    return _SCHEME.match(str(path)) is not None


def from_hub(address: Path) -> Path:
    """The file of a model on the hub, fetched if it is not in huggingface_hub's cache; `$HF_TOKEN` opens private ones.

    Args:
        address: `hf://OWNER/NAME`, or with `@` and a branch, tag or commit.

    Raises:
        InputError: no such model, file or revision, no access, or no network and nothing in the cache.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    shown = f"hf://{_SCHEME.sub('', str(address))}"
    found = _ADDRESS.fullmatch(_SCHEME.sub("", str(address)))
    if found is None:
        raise InputError(f"{shown}: an address on the hub is hf://OWNER/NAME, or hf://OWNER/NAME@REVISION.")
    try:
        return Path(hf_hub_download(found[1], HUB_FILE, revision=found[2]))
    except LocalEntryNotFoundError:
        raise InputError(
            f"{shown}: the hub cannot be reached, and the model is not in huggingface_hub's cache."
        ) from None
    except GatedRepoError:
        raise InputError(
            f"{shown}: access has to be asked for on its page, and a token given in HF_TOKEN."
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        raise InputError(
            f"{shown}: there is no such model or revision on the hub; a private one needs a token in HF_TOKEN."
        ) from None
    except EntryNotFoundError:
        raise InputError(
            f"{shown}: holds no {HUB_FILE}, which `srfgan export --format hub` writes."
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise InputError(f"{shown}: cannot be fetched: {str(error).splitlines()[0]}") from None
