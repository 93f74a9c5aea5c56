"""The command line: a file for each command, and files that the commands share."""
