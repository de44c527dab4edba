"""What every module may lean on, and which leans on none: arguments, files, devices."""
