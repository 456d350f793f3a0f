"""The catalogue tried out: each named fault for a few seconds, on the reference collector and on one with a planted bug.

`outcome` says what a trial is and what its verdict means, `worker` does trials on one warm stack, `pool` has several workers
side by side, `matrix` says what has been tried and what it killed, `terminal` and `files` show it, `mutants` finds the planted bugs.
"""
