"""The scripts of the log; each file says what it takes and answers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from .script import Script

__all__ = ["CHECK", "HISTORY", "OPEN", "PUBLISH", "RANGE"]

_FOLDER: Final = Path(__file__).with_name("lua") / "log"
_COMMON: Final = ("common",)

# Only publishing makes the data grow. The others have to work on a full server too: trimming is what makes room.
PUBLISH: Final = Script.load(_FOLDER, "publish", common=_COMMON)
OPEN: Final = Script.load(_FOLDER, "open", flags="allow-oom", common=_COMMON)
CHECK: Final = Script.load(_FOLDER, "check", flags="allow-oom", common=_COMMON)
HISTORY: Final = Script.load(_FOLDER, "history", flags="allow-oom", common=_COMMON)
RANGE: Final = Script.load(_FOLDER, "range", flags="no-writes", common=_COMMON)
