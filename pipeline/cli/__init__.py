"""The command line `debcm`."""
