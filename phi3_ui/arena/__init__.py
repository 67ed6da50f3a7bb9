"""Blind comparisons of models: rounds, votes, and ratings from votes. Knows no UI and no store."""
