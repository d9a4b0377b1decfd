"""Harvest a demo corpus from what an install of toremi already holds: clean text, and what lies around it."""
