"""`python -m keras_retinaface` is the command `retinaface`."""

import sys

from keras_retinaface.cli import main

if __name__ == "__main__":
    sys.exit(main.main())
