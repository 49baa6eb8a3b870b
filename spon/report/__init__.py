"""A report of a trained model: one HTML file that needs no other."""
