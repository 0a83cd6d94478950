"""Measure the variants of a bundle beside its baseline: workers in, Measurements out.

Speed is compared only within one run: per process restart every variant has a process of its own, all alive at once,
and they take turns in short slices, in another random order each round, so that what disturbs the machine disturbs all
of them alike. No process is tied to a core: on a shared machine it would wait for that one while another is free.
"""
