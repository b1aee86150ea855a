"""The moments of a library of videos that look as a text says."""
