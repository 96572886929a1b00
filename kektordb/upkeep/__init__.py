"""What is done for an index that no caller waits for: in the background, in slices that let others go on."""
