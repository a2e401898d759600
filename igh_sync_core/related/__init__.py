"""Tables that are copied only as far as others point at them, and whether all references are whole."""
