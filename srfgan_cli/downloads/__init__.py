"""Fetching published weight files: addresses of file hosts, transfer with resume, and the cache."""
