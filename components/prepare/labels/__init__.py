"""labels: what people judged, what they clicked, and which split that puts a query into."""
