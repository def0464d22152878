"""MkDocs hook: the model card is the README beside the packaged weights."""

import re
from pathlib import Path
from typing import Any

CARD = Path(__file__).parents[1] / 'ggkm_plugin/weights/README.md'


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    if page.file.src_uri != 'model-card.md':
        return markdown
    card = re.sub(r'\A---\n.*?\n---\n', '', CARD.read_text(encoding='utf-8'), flags=re.DOTALL)  # Hugging Face's header
    card = card.replace('[photographs.csv](photographs.csv)', '`photographs.csv`')  # beside the card
    return re.sub(r'\]\((?:\.\./)+docs/', '](', card)
