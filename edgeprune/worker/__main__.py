"""`python -m edgeprune.worker`."""

from edgeprune.worker.worker import main

main()
