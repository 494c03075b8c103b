"""Pictures and films in and out, aligned crops and drawn faces; NumPy, OpenCV and Pillow only."""
