"""``python -m ezadmin_cmdb.signer``: the process that ``ezadmin-cmdb signer`` becomes."""

from __future__ import annotations

import sys

from ezadmin_cmdb.signer.process import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
