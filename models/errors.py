"""The one exception for anything a user can put right."""


class InputError(ValueError):
    """The user's input cannot be used: an option, a preset, a data set, an image or a checkpoint.

    The message is shown as it is, without a traceback, so it says what is wrong, where (file, image id,
    key) and what to do. The command line ends with exit code 2 on it.
    """
