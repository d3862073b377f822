"""What moves a schedule: the coordinator of a run and its lanes of threads and of the event loop, runs and streams."""
