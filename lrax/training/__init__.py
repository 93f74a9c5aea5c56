"""One run: what is trained, on which batches, and the step that every loop shares."""
