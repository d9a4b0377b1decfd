"""Topic reweighting in other people's trainers."""
