"""Figures and the self-contained page that show what runs did."""
