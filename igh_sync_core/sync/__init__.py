"""One entity from its strategy to its report, and the entities of a tier at once."""
