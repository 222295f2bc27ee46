"""Any upsampler in other people's models: what upsamples in them is found in a run, and replaced where it stands.

Start at `replace.py`. `calls.py` knows an interpolation by two, `places.py` finds them, `scope.py` catches them.
"""
