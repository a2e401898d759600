"""Answers to queries of rows: options, filters, pages, deltas."""
