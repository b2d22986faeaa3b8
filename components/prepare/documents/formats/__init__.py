"""One file a format: text -> blocks below headings; `decoding` makes text of bytes, `blocks` says what a block is."""
