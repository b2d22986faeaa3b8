"""quality: annotations -> how far they can be trusted; agreement with people, position bias, outcomes, one page."""
