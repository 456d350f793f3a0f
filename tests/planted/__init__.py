"""Planted bugs by what they concern; `tests/mutants.py` names them and starts them.

Most are the naive collector with one difference; those about its buffer on disk, its flushes and its table are the reference
collector with one difference. Each is right while nothing breaks, unless it says otherwise.
"""
