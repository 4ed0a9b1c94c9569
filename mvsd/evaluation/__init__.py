"""How good a conversion is: the metrics, with their definitions, and the table of results."""
