"""What pointsman costs, measured beside its peers: `python -m bench [name …] [--quick]`, or `make bench`.

Absolute figures move from machine to machine, so read the ratios within one run. Linux only: processes are pinned
to cores and their CPU time is read from the kernel. What is measured runs on the first core that we may use, and
whatever makes load or answers it on the last.
"""
