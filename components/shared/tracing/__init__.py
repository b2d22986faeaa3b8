"""Where a request or a run belongs in a trace (W3C Trace Context), and its spans where a collector is named."""
