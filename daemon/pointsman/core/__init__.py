"""The pure core: state, evidence and time in; a decision out. Nothing here waits, logs or reads a clock."""
