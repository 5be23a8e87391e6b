"""What reading an image file can raise, wherever this package reads one."""

READ_ERRORS = (OSError, SyntaxError, ValueError, EOFError)  # what Pillow raises for a file that is no whole image
