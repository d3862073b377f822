"""What one worker does with one bundle: the interpreter and what is linked around a step, the loop over items."""
