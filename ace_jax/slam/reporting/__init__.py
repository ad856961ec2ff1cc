"""What a SLAM run reports: files, pages, live view, progress, times."""
