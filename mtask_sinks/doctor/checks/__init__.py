"""The checks: a function each. It looks at a script or at a training, and says what it sees and how to mend it."""
