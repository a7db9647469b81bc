/// Reads, checks and compares what users write.
