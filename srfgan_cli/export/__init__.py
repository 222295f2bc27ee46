"""Taking a detector away: one file that runs without this project, compared with PyTorch before it is kept."""
