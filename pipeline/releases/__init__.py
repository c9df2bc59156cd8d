"""Reads, verifies and serves releases; defines their files and the pointer to the current one."""
