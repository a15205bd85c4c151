"""From what an application says to a draft the log can take."""

from __future__ import annotations

from .drafts import Body, body_to_draft, draft

__all__ = ["Body", "body_to_draft", "draft"]
