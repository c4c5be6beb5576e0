"""``python -m recipes.mini``: see ``recipes/mini/README.md``."""

import sys

from recipes.mini.cli import main

if __name__ == "__main__":
    sys.exit(main())
