"""One thin module per command; torch is imported inside the functions only."""
