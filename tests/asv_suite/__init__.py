"""What asv measures by itself, with the names that 'siderostat export asv' gives: see docs/asv.md.

asv installs each commit alone, so that neither torch nor anything else is installed again for each. The packages that
it needs come from the environment that 'make test' makes, after those of asv's own environment.
"""

import os
import sys
from pathlib import Path

_VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"

if "ASV_CONF_DIR" in os.environ:  # asv runs this
    sys.path.append(str(Path(os.environ["ASV_CONF_DIR"], ".venv", "lib", _VERSION, "site-packages")))
