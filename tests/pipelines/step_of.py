"""A step for test_warm.py: runs `code_of_step.py` of the folder that is its argument."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(sys.argv[1]) / "code_of_step.py"), run_name="__main__")
