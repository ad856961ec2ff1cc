"""Pre-training of encoders: a small descriptor network, on pairs of images with exact matches."""
