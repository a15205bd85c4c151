"""From what an application says to a draft the log can take, and into the log of hubs that run elsewhere."""

from __future__ import annotations

from .drafts import EventBody, body_to_draft, draft
from .publisher import Publisher

__all__ = ["EventBody", "Publisher", "body_to_draft", "draft"]
