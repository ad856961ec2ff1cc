"""RGB-D SLAM whose map regresses scene coordinates."""
