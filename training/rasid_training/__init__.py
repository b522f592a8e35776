"""Trains the weights that Rasid ships: one multilingual trunk, a head over tokens for names and one over windows for topics."""
