"""What happened in, callbacks called: the hooks users write, and the dispatcher that calls them."""
