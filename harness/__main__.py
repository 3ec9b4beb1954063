"""``python -m siderostat``."""

from siderostat.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
