"""encoding: texts -> vectors; what an encoder is, the exported bundle, users' folders, batches, cuts."""
