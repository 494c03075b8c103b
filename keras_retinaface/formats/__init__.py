"""Files of other people, read without running what they say: archives, arrays, annotations. Imports nothing of ours."""
