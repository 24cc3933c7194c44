"""What trainings came to, computed from their journals and checkpoints, whatever shows it."""
