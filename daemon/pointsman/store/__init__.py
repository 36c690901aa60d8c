"""The only place that speaks Redis: the lease, the state, the table, reports, words, events and hints."""
