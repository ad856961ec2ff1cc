"""Localization in a known scene: scene maps, landmarks, matching, the relocalizer."""
