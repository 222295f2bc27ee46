"""Necks: {"res2": ..., "res5": ...} to {"p2": ..., "p6": ...}, all of one width."""
