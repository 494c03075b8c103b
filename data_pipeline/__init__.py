"""`tf.data` input: annotation formats, augmentation and anchor targets, all in the graph."""
