"""The one exception for anything a user can put right."""

from typing import Any


class InputError(ValueError):
    """The user's input cannot be used: an option, a preset, a data set, an image or a checkpoint.

    The message is shown as it is, without a traceback, so it says what is wrong, where (file, image id,
    key) and what to do. The command line ends with exit code 2 on it.
    """


def kind_of(value: Any) -> str:
    """What a value is, for a message: `None`, `an int`, `a numpy array (480, 640, 3) of uint8`."""
    if value is None:
        return "None"
    name = type(value).__name__.replace("ndarray", "numpy array")
    if type(value).__module__.startswith("PIL."):
        name = f"PIL {name}"
    detail = (
        f" {tuple(value.shape)} of {value.dtype}"
        if hasattr(value, "shape") and hasattr(value, "dtype")
        else ""
    )
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}{detail}"
