"""`retriever evaluate`: a suite file -> the datasets, encoders and indexes that it lacks, then its evaluation."""
