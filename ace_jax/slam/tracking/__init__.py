"""Camera tracking: the pose of each frame in the landmark map."""
