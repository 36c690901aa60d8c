"""What the operator writes: models, sources, errors with a place and a cure, reload."""
