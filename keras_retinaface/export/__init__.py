"""SavedModel and TFLite files of a model, and their parity with it."""
