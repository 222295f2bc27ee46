"""A trained detector at work: on files, arrays, videos and large images."""
