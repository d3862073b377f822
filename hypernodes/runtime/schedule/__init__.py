"""What runs next: the state machine of a run, and the state of its frames and maps. No thread, clock or pool."""
