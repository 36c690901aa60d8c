"""The thin data plane: forwards by the table, falls along the chain, reports what it saw."""
