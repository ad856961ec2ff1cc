"""What can be wrong with a recording, found by looking at it: one module per kind of evidence."""
