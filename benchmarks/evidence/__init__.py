"""The evidence: a grid of training runs that tests the claims, and the tables and figures that it comes to."""
