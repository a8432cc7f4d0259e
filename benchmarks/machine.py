"""Where something was measured."""

import os
import platform


def machine() -> dict[str, object]:
    """Describe it, for those who read the numbers later."""
    return {
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
    }
