"""What is wrong with a training, and how to mend it: found in its script, read and not run, or in its journal."""
