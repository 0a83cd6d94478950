"""Making a network physically smaller: a pruner chooses channels, surgery removes them."""
