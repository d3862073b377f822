"""Mode names and limits in, a lowering paired with drivers out."""
