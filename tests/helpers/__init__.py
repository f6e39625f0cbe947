"""What several test files share: commands, small models, enumeration, processes."""
