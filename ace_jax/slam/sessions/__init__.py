"""SLAM maps on disk: sessions, checkpoints of running programs, merging."""
