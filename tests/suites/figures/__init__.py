"""`make figures`: how the code is built, in figures that can be compared from commit to commit."""
