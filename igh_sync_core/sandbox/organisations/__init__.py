"""Organisations to serve: the model one, and such as a real metadata document describes."""
