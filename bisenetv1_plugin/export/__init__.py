"""Export trained weights into a folder."""
