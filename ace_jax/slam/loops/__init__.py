"""Loop closing: place recognition, geometric verification and correction."""
