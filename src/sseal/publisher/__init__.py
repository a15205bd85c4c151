"""From what an application says to a publication the log can take, and into the log of hubs that run elsewhere."""

from __future__ import annotations

from .publications import TOPIC_SCHEMA, EventBody, TopicText, body_to_publication, publication
from .publisher import Publisher

__all__ = ["TOPIC_SCHEMA", "EventBody", "Publisher", "TopicText", "body_to_publication", "publication"]
