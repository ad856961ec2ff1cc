"""Scene-coordinate networks as SLAM maps, distilled from the landmark map."""
