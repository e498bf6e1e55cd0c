"""The exception that means "the user can mend this": its text is a whole line, and the command line exits with 2."""


class UserError(Exception):
    """Bad input. The message is one line that names the file, key or value at fault and the way out."""
