"""Plan in, values out, in rooms that build on each other: `bundle`, `schedule`, `drivers`, `processes`."""
