"""Making a network physically smaller: a pruner chooses what goes, surgery removes it."""

CRITERIA = {
    "magnitude": "edgeprune.prune.magnitude:Magnitude",
    "taylor": "edgeprune.prune.taylor:Taylor",
    "uniform": "edgeprune.prune.uniform:Uniform",
}
"""What ranks channels and blocks, by the name of the pruner."""
