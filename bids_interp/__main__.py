"""``python -m bids_interp`` is the command ``bids_interp``."""

from bids_interp.cli.app import main

if __name__ == '__main__':
    main()
