"""The landmark map of SLAM and its local mapping."""
