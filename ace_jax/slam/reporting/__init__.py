"""Reporting of a SLAM run: files, HTML page, live view, progress, times."""
