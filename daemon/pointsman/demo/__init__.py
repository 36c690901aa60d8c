"""The main job on one machine: real processes, fake providers, steady traffic, and a story of outages."""
