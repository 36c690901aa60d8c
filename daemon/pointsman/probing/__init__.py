"""Asks every provider, on time, whether it works. It tells what it saw, and decides nothing."""
