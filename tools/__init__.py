"""Programs that make the files the project ships; not part of the package."""
