"""Chainlink's real contracts, compiled from its npm package, and the shipped descriptions of them, on a real chain."""
