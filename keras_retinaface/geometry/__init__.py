"""Pure tensor functions on boxes, landmarks and anchors; imports nothing else of this package."""
